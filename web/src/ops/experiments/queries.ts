import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, opsApi } from "../../client/api";
import { opsKeys } from "../keys";
import type { Schemas } from "../types";

const RUNNING_MS = 10_000;

export type Experiment = Schemas["ExperimentBody"];
export type Summary = Schemas["ExperimentSummary"];
export type Metric = Schemas["Shown"]["decides"];

export function useExperiments() {
  return useQuery({
    queryKey: opsKeys.experiments,
    queryFn: async ({ signal }) =>
      (await body(opsApi().GET("/v1/experiments", { params: { query: { limit: 50 } }, signal }))).experiments,
    refetchInterval: RUNNING_MS,
  });
}

export function useExperiment(id: number) {
  return useQuery({
    queryKey: opsKeys.experiment(id),
    queryFn: ({ signal }) =>
      body(
        opsApi().GET("/v1/experiments/{experiment_id}", { params: { path: { experiment_id: id } }, signal }),
      ),
    staleTime: 0,
    refetchInterval: ({ state }) => (state.data?.status === "running" ? RUNNING_MS : false),
  });
}

export function useLooks(id: number, running: boolean) {
  return useQuery({
    queryKey: opsKeys.looks(id),
    queryFn: async ({ signal }) =>
      (
        await body(
          opsApi().GET("/v1/experiments/{experiment_id}/history", {
            params: { path: { experiment_id: id } },
            signal,
          }),
        )
      ).looks,
    staleTime: 0,
    refetchInterval: running ? RUNNING_MS : false,
  });
}

export function useStartExperiment() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (wanted: Schemas["ExperimentRequest"]) =>
      body(opsApi().POST("/v1/experiments", { body: wanted })),
    onSuccess: () => client.invalidateQueries({ queryKey: opsKeys.experiments }),
  });
}

export function useStopExperiment(id: number) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (wanted: Schemas["StopRequest"]) =>
      body(
        opsApi().POST("/v1/experiments/{experiment_id}/stop", {
          params: { path: { experiment_id: id } },
          body: wanted,
        }),
      ),
    onSuccess: () =>
      Promise.all([
        client.invalidateQueries({ queryKey: opsKeys.experiments }),
        client.invalidateQueries({ queryKey: opsKeys.models }),
      ]),
  });
}
