import { useTranslation } from "react-i18next";
import type { Tone } from "../parts/badge";
import type { RunState } from "../types";

export const RUN_TONES: Record<RunState, Tone> = {
  queued: "plain",
  running: "busy",
  succeeded: "good",
  failed: "bad",
  cancelled: "warn",
};

/** The name of a pipeline in words; one that is not known keeps its own. */
export function usePipelineName(): (pipeline: string) => string {
  const { t, i18n } = useTranslation("ops");
  return (pipeline) =>
    i18n.exists(`runs.pipeline.${pipeline}`, { ns: "ops" })
      ? t(`runs.pipeline.${pipeline}` as "runs.pipeline.train")
      : pipeline;
}
