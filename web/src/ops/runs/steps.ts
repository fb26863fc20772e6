import type { Run, RunState, Schemas } from "../types";

export interface Step {
  name: string;
  status: RunState | "waiting" | "skipped";
  runId: string | null;
  progress: number | null;
  startedAt: string | null;
  finishedAt: string | null;
}

const WHOLE = ["prepare", "train", "promote", "infer"];

/** The parts of a run in their order: those that it has come to, and those that are still ahead. */
export function stepsOf(run: Run): Step[] {
  const { steps = [] } = run;
  if (run.pipeline !== "pipeline" && steps.length === 0) return [alone(run)];
  const begun = steps.map(part);
  const ahead = WHOLE.filter((name) => !steps.some((step) => step.name === name));
  const over = run.finished_at !== null;
  return [
    ...begun,
    ...ahead.map((name): Step => ({
      name,
      status: over ? "skipped" : "waiting",
      runId: null,
      progress: null,
      startedAt: null,
      finishedAt: null,
    })),
  ];
}

function alone(run: Run): Step {
  return {
    name: run.pipeline,
    status: run.status,
    runId: null,
    progress: run.progress,
    startedAt: run.started_at,
    finishedAt: run.finished_at,
  };
}

function part(step: Schemas["RunStep"]): Step {
  return {
    name: step.name,
    status: step.status,
    runId: step.run_id,
    progress: step.progress,
    startedAt: step.started_at,
    finishedAt: step.finished_at,
  };
}
