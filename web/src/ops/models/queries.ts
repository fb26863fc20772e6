import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, opsApi } from "../../client/api";
import { useLang } from "../../i18n";
import { opsKeys } from "../keys";
import type { ModelVersion, Schemas } from "../types";

const REFRESH_MS = 15_000;

export interface Promotion {
  version: string;
  force: boolean;
  require_approval: boolean;
  reason: string;
}

export function useModels() {
  return useQuery({
    queryKey: opsKeys.models,
    queryFn: async ({ signal }) =>
      (await body(opsApi().GET("/v1/models", { params: { query: { limit: 100 } }, signal }))).models,
    refetchInterval: REFRESH_MS,
  });
}

export function useModel(version: string) {
  return useQuery({
    queryKey: opsKeys.model(version),
    queryFn: ({ signal }) =>
      body(opsApi().GET("/v1/models/{version}", { params: { path: { version } }, signal })),
  });
}

/** What a version would show a user. Nothing is recorded of it. */
export function usePreview(version: string, userId: number | null) {
  const lang = useLang();
  return useQuery({
    queryKey: opsKeys.preview(version, userId ?? -1, lang),
    queryFn: ({ signal }) =>
      body(
        opsApi().GET("/v1/models/{version}/recommendations", {
          params: { path: { version }, query: { user_id: userId ?? -1, k: 10, explain: true, lang } },
          signal,
        }),
      ),
    enabled: userId !== null && version !== "",
  });
}

/** Puts a version before the gate; the answer is the run that judges it. */
export function usePromote() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ reason, ...wanted }: Promotion): Promise<string> => {
      const answer = await body(
        opsApi().POST("/v1/models/promote", {
          params: { query: { wait: false } },
          body: { ...wanted, reason: reason.trim() === "" ? null : reason.trim() },
        }),
      );
      if (!("run_id" in answer)) throw new Error("The API did not name the run.");
      return answer.run_id;
    },
    onSuccess: () => client.invalidateQueries({ queryKey: opsKeys.runs }),
  });
}

export function useApprove() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (wanted: Schemas["ApprovalRequest"]) =>
      body(opsApi().POST("/v1/models/approve", { body: wanted })),
    onSuccess: () => deployed(client),
  });
}

export function useRollBack() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (wanted: Schemas["RollbackRequest"]) =>
      body(opsApi().POST("/v1/models/rollback", { body: wanted })),
    onSuccess: () => deployed(client),
  });
}

/** After a deployment: models, and who serves. */
export function deployed(client: ReturnType<typeof useQueryClient>) {
  return Promise.all([
    client.invalidateQueries({ queryKey: opsKeys.models }),
    client.invalidateQueries({ queryKey: opsKeys.overview }),
  ]);
}

/** What a version is called in addresses: those that were counted on the spot have no version. */
export function versionOf(model: ModelVersion): string {
  return model.version ?? model.digest;
}

export function holding(models: readonly ModelVersion[] | undefined, slot: string): ModelVersion | undefined {
  return models?.find((model) => model.slots.includes(slot));
}
