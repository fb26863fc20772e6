import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { answering, renderSite } from "../../test/render";
import "../locales";
import type { ModelVersion } from "../types";
import { Promote } from "./promote";

function version(model: string, rest: Partial<ModelVersion>): ModelVersion {
  return {
    model,
    version: `20261123T000000.000000Z-${model}0000`,
    bundle: `bundles/${model}`,
    digest: model,
    slots: [],
    trained_at: "2026-11-23T00:00:00Z",
    age_seconds: 7_200,
    verdict: null,
    reasons: [],
    judged_at: null,
    ndcg_at_10: null,
    metrics: {},
    size_bytes: 1,
    ...rest,
  };
}

const champion = version("ease", { slots: ["champion"], ndcg_at_10: 0.18 });
const challenger = version("ials", {
  slots: ["challenger"],
  verdict: "refused",
  reasons: ["NDCG@10 is not better."],
  ndcg_at_10: 0.14,
});
const run = {
  run_id: "r-1",
  pipeline: "promote",
  status: "succeeded",
  parameters: {},
  counts: { verdict: "forced", reasons: ["It was wanted."] },
  step: null,
  progress: 1,
  error: null,
  attempts: 1,
  created_at: "2026-11-23T00:00:00Z",
  started_at: "2026-11-23T00:00:00Z",
  finished_at: "2026-11-23T00:00:01Z",
  steps: [],
};

async function open() {
  const { fetcher, requests } = answering({
    "POST /v1/models/promote": { run_id: "r-1", status: "queued", location: "/v1/runs/r-1" },
    "GET /v1/runs/r-1": run,
  });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<Promote model={challenger} models={[challenger, champion]} />);
  await userEvent.click(screen.getByRole("button", { name: "Promote" }));
  return { requests, dialog: within(screen.getByRole("dialog")) };
}

test("the confirmation shows what changes and what the gate said, and asks nothing before", async () => {
  const { requests, dialog } = await open();
  expect(dialog.getByText("Champion now").parentElement).toHaveTextContent("ease");
  expect(dialog.getByText("Champion afterwards").parentElement).toHaveTextContent("ials");
  expect(dialog.getByText("Refused")).toBeInTheDocument();
  expect(dialog.getByText("NDCG@10 is not better.")).toBeInTheDocument();
  await userEvent.click(dialog.getByRole("button", { name: "Cancel" }));
  expect(requests).toEqual([]);
  expect(screen.queryByText("Champion now")).not.toBeInTheDocument();
});

test("forcing needs a reason, and then shows how it ended", async () => {
  const { requests, dialog } = await open();
  await userEvent.click(dialog.getByLabelText(/^Force it/));
  await userEvent.click(dialog.getByRole("button", { name: "Force the promotion" }));
  expect(dialog.getByText("Say why the gate is overridden.")).toBeInTheDocument();
  expect(requests).toEqual([]);

  await userEvent.type(dialog.getByLabelText("Reason (needed)"), "An outage of the old one");
  await userEvent.click(dialog.getByRole("button", { name: "Force the promotion" }));
  expect(await dialog.findByText("It was wanted.")).toBeInTheDocument();
  expect(requests[0]).toMatchObject({
    path: "/v1/models/promote",
    body: {
      version: challenger.version,
      force: true,
      require_approval: false,
      reason: "An outage of the old one",
    },
  });
});
