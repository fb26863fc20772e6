import { expect, test } from "vitest";
import { chartsOf } from "./curves";
import { reportOf } from "./report";

const interval = { mean: 0.1, low: 0.05, high: 0.15, n: 188 };

test("the parts of a report are read in the order in which they were judged", () => {
  const comparison = { challenger: interval, champion: interval, difference: interval, judged: true };
  const report = reportOf({
    verdict: "passed",
    reasons: ["NDCG@10 is better."],
    champion: { model: "ease", version: "v1" },
    measured: {
      bundle_mib: 0.3,
      latency_ms: 1.2,
      checks: [{ name: "sound", passed: true, found: "0 of 200" }],
    },
    ndcg_at_10: { ...comparison, metric: "ndcg_at_10", part: "all", better: true },
    second_metric: { ...comparison, metric: "coverage_at_10", part: "all" },
    slices: [{ ...comparison, metric: "ndcg_at_10", part: "last_1", fell: true }],
  });
  expect(report.comparisons.map(({ part, metric }) => `${part} ${metric}`)).toEqual([
    "all ndcg_at_10",
    "all coverage_at_10",
    "last_1 ndcg_at_10",
  ]);
  expect(report.comparisons[2]).toMatchObject({ fell: true, better: false, difference: interval });
  expect(report).toMatchObject({ against: "ease v1", latencyMs: 1.2, notes: [] });
});

test("a report of another gate, with nothing to compare, is read all the same", () => {
  const report = reportOf({
    verdict: "refused",
    reasons: ["Only 3 rows."],
    accuracy: null,
    ndcg_at_10: null,
  });
  expect(report).toMatchObject({ verdict: "refused", comparisons: [], checks: [], against: null });
});

test("curves of one metric share a chart", () => {
  const curve = (name: string) => ({ name, steps: [1, 2], values: [3, 2] });
  const charts = chartsOf([curve("train_loss"), curve("validation_loss"), curve("validation_accuracy")]);
  expect(charts.map(({ name, series }) => [name, series.length])).toEqual([
    ["loss", 2],
    ["accuracy", 1],
  ]);
});
