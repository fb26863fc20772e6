import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, opsApi } from "../../client/api";
import { opsKeys } from "../keys";
import type { Run, RunState, Schemas } from "../types";

const LIVE_MS = 1_500;
const IDLE_MS = 10_000;
const LINES_AT_ONCE = 500;
const LINES_KEPT = 2_000;
/** The worker writes lines within a second; those of the end come a little after it. */
const LAST_LINES_MS = 4_000;

export interface Logs {
  lines: Schemas["LogLine"][];
  next: string;
}

export const STARTABLE = ["pipeline", "prepare", "train", "infer", "backup"] as const;
export type Startable = (typeof STARTABLE)[number];

export interface Start {
  pipeline: Startable;
  model: string;
  k: number;
}

export function unfinished(status: RunState): boolean {
  return status === "queued" || status === "running";
}

export function useRuns(pipeline: string) {
  return useQuery({
    queryKey: opsKeys.runList(pipeline),
    queryFn: async ({ signal }) => {
      const query = pipeline === "" ? { limit: 50 } : { limit: 50, pipeline };
      return (await body(opsApi().GET("/v1/runs", { params: { query }, signal }))).runs;
    },
    staleTime: 0,
    refetchInterval: ({ state }) => (state.data?.some((run) => unfinished(run.status)) ? LIVE_MS : IDLE_MS),
  });
}

export function useRun(runId: string | null) {
  return useQuery({
    queryKey: opsKeys.run(runId ?? ""),
    queryFn: ({ signal }) =>
      body(opsApi().GET("/v1/runs/{run_id}", { params: { path: { run_id: runId ?? "" } }, signal })),
    enabled: runId !== null,
    staleTime: 0,
    refetchInterval: ({ state }) => (state.data && !unfinished(state.data.status) ? false : LIVE_MS),
  });
}

/** The lines of a run, followed while it goes on. */
export function useLogs(run: Run) {
  const client = useQueryClient();
  const key = opsKeys.logs(run.run_id);
  return useQuery({
    queryKey: key,
    queryFn: async ({ signal }): Promise<Logs> => {
      let { lines, next } = client.getQueryData<Logs>(key) ?? { lines: [], next: "0" };
      for (;;) {
        const page: Logs = await body(
          opsApi().GET("/v1/runs/{run_id}/logs", {
            params: { path: { run_id: run.run_id }, query: { after: next, limit: LINES_AT_ONCE } },
            signal,
          }),
        );
        lines = [...lines, ...page.lines].slice(-LINES_KEPT);
        next = page.next;
        if (page.lines.length < LINES_AT_ONCE) return { lines, next };
      }
    },
    staleTime: 0,
    structuralSharing: false,
    refetchInterval: () => {
      if (run.finished_at === null) return LIVE_MS;
      return Date.now() - Date.parse(run.finished_at) < LAST_LINES_MS ? LIVE_MS : false;
    },
  });
}

export function useStartRun() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (start: Start): Promise<string> => {
      const answer = await send(start);
      if (!("run_id" in answer)) throw new Error("The API did not name the run.");
      return answer.run_id;
    },
    onSuccess: () => client.invalidateQueries({ queryKey: opsKeys.runs }),
  });
}

export function useCancelRun() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (runId: string) =>
      body(opsApi().POST("/v1/runs/{run_id}/cancel", { params: { path: { run_id: runId } } })),
    onSettled: () => client.invalidateQueries({ queryKey: opsKeys.runs }),
  });
}

function send({ pipeline, model, k }: Start): Promise<Schemas["RunAccepted"] | Schemas["RunResult"]> {
  const params = { query: { wait: false } };
  switch (pipeline) {
    case "prepare":
      return body(opsApi().POST("/run/prepare-data", { params }));
    case "train":
      return body(opsApi().POST("/run/train", { params, body: { model_name: model } }));
    case "infer":
      return body(opsApi().POST("/run/model-inference", { params }));
    case "backup":
      return body(opsApi().POST("/run/backup", { params }));
    case "pipeline":
      return body(opsApi().POST("/run/pipeline", { params, body: { model_name: model, k } }));
  }
}
