import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { answering, problem, renderSite } from "../../test/render";
import "../locales";
import type { Run } from "../types";
import { CancelRun } from "./run-page";
import { stepsOf } from "./steps";

const run: Run = {
  run_id: "7e57",
  pipeline: "pipeline",
  status: "running",
  parameters: {},
  counts: {},
  step: "train: epoch",
  progress: 0.4,
  error: null,
  attempts: 1,
  created_at: "2026-11-23T00:00:00Z",
  started_at: "2026-11-23T00:00:01Z",
  finished_at: null,
  steps: [
    {
      name: "prepare",
      run_id: "7e58",
      status: "succeeded",
      progress: 1,
      started_at: "2026-11-23T00:00:01Z",
      finished_at: "2026-11-23T00:00:02Z",
    },
  ],
};

async function open(answers: Record<string, unknown>) {
  const { fetcher, requests } = answering(answers);
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<CancelRun run={run} />);
  await userEvent.click(screen.getByRole("button", { name: "Cancel the run" }));
  return { requests, dialog: within(screen.getByRole("dialog")) };
}

test("a run is cancelled only after it was confirmed", async () => {
  const { requests, dialog } = await open({ "POST /v1/runs/7e57/cancel": { ...run, status: "cancelled" } });
  expect(dialog.getByText("Cancel “Whole pipeline”?")).toBeInTheDocument();
  expect(requests).toEqual([]);
  await userEvent.click(dialog.getByRole("button", { name: "Cancel the run" }));
  await waitFor(() => expect(screen.queryByText("Cancel “Whole pipeline”?")).not.toBeInTheDocument());
  expect(requests.map(({ method, path }) => `${method} ${path}`)).toEqual(["POST /v1/runs/7e57/cancel"]);
});

test("a run that ended meanwhile says so in the same place", async () => {
  const { dialog } = await open({
    "POST /v1/runs/7e57/cancel": problem(409, "/problems/run-finished", { detail: "It has succeeded." }),
  });
  await userEvent.click(dialog.getByRole("button", { name: "Cancel the run" }));
  expect(await dialog.findByText("It has succeeded.")).toBeInTheDocument();
});

test("steps that a run has not come to are drawn, and those that it never reached are told apart", () => {
  const states = (of: Run) => stepsOf(of).map(({ name, status }) => `${name} ${status}`);
  expect(states(run)).toEqual(["prepare succeeded", "train waiting", "promote waiting", "infer waiting"]);
  const ended: Run = { ...run, status: "failed", finished_at: "2026-11-23T00:00:03Z" };
  expect(states(ended).slice(1)).toEqual(["train skipped", "promote skipped", "infer skipped"]);
  expect(states({ ...run, pipeline: "train", steps: [] })).toEqual(["train running"]);
});
