import { expect, test } from "vitest";
import { bandOf, chartRows, hasBands, reachOf } from "../charts/series";
import { scaleOf } from "../charts/interval";
import type { Schemas } from "../types";
import { intervalSeries, metricsOf } from "./looks";

function comparison(arm: string, value: number, band: [number, number] | null): Schemas["ComparisonBody"] {
  return {
    arm,
    metric: "hit_rate",
    slice: "all",
    value,
    low: value - 0.01,
    high: value + 0.01,
    always_low: band?.[0] ?? null,
    always_high: band?.[1] ?? null,
    verdict: "not decided yet",
  };
}

const looks: Schemas["LookBody"][] = [
  {
    measured_at: "2026-11-23T00:00:00Z",
    comparisons: [comparison("b", 0.02, null), { ...comparison("b", 9, null), slice: "new" }],
  },
  {
    measured_at: "2026-11-23T00:01:00Z",
    comparisons: [comparison("b", 0.03, [-0.01, 0.07]), comparison("c", -0.02, [-0.05, 0.01])],
  },
];

test("the interval over time is the one that holds at every look, of the chosen users", () => {
  const series = intervalSeries(looks, "hit_rate", "all", (arm) => arm.toUpperCase());
  expect(series.map(({ name }) => name)).toEqual(["B", "C"]);
  expect(series[0]?.points).toEqual([
    { x: Date.parse("2026-11-23T00:00:00Z"), y: 0.02, low: null, high: null },
    { x: Date.parse("2026-11-23T00:01:00Z"), y: 0.03, low: -0.01, high: 0.07 },
  ]);
  expect(metricsOf(looks)).toEqual(["hit_rate"]);
});

test("a look without enough users has a point and no band", () => {
  const series = intervalSeries(looks, "hit_rate", "all", String);
  expect(hasBands(series)).toBe(true);
  const [first, second] = chartRows(series);
  expect(first).toMatchObject({ b: 0.02, [bandOf("b")]: null });
  expect(second).toMatchObject({ b: 0.03, c: -0.02, [bandOf("b")]: [-0.01, 0.07] });
  expect(second && reachOf(second, "b").map((reach) => reach.toFixed(2))).toEqual(["0.04", "0.04"]);
});

test("the scale of drawn intervals holds all of them and no difference", () => {
  const [low, high] = scaleOf([{ value: 0.03, low: 0.01, high: 0.07 }]);
  expect(low).toBeLessThan(0);
  expect(high).toBeGreaterThan(0.07);
});
