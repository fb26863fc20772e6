import { expect, test } from "vitest";
import type { Feature, Point } from "./queries";
import { byUrgency, cornersOf, effectsOf, isLink, qualitySeries, told } from "./trends";

function point(at: string, hits: Record<string, number>, effects: Record<string, number> = {}): Point {
  return {
    at,
    effects,
    quality: {
      answers: 10,
      coverage: 0.3,
      gini: null,
      popularity_share: null,
      novelty_bits: 9,
      cold_users: 0,
      fallback: 0,
      label_delay_seconds: {},
      outcomes: Object.keys(hits).length > 0 ? { hit_rate: hits } : {},
      quarantine_share: null,
      newest_event_seconds: null,
    },
  };
}

const history = [
  point("2026-11-23T00:00:00Z", {}, { genre: 0.1 }),
  point("2026-11-23T01:00:00Z", { champion: 0.2 }),
  point(
    "2026-11-23T02:00:00Z",
    { champion: 0.3, "20261122T101500.000000Z-3f2a9c0d1e2b": 0.4 },
    { genre: 0.4 },
  ),
];

test("hit rates are a line for each arm, with gaps where an arm had no answers", () => {
  const series = qualitySeries(history, "hit_rate", "Hit rate");
  expect(series.map(({ name }) => name)).toEqual(["3f2a9c0d", "champion"]);
  expect(series.map(({ points }) => points.map(({ y }) => y))).toEqual([
    [null, null, 0.4],
    [null, 0.2, 0.3],
  ]);
});

test("other figures are one line; what could not be told is a gap", () => {
  expect(qualitySeries(history, "gini", "Gini")).toMatchObject([
    { name: "Gini", points: [{ y: null }, {}, {}] },
  ]);
  expect(qualitySeries(history, "coverage", "Coverage")[0]?.points).toHaveLength(3);
});

test("a sparkline has a corner for each look that said something, within its box", () => {
  const points = effectsOf(history, "genre");
  expect(points.map(({ y }) => y)).toEqual([0.1, 0.4]);
  expect(cornersOf(points, 0.5, [100, 20])).toEqual([
    { x: 0, y: 16 },
    { x: 100, y: 4 },
  ]);
  expect(cornersOf(points.slice(0, 1), 0.05, [100, 20])).toEqual([{ x: 50, y: 0 }]);
});

test("what has drifted comes first, the rest in its order", () => {
  const named = (["stable", "unknown", "drift", "shifted", "stable"] as const).map(
    (status, at) => ({ status, name: String(at) }) as Feature,
  );
  expect(byUrgency(named).map(({ name }) => name)).toEqual(["2", "3", "0", "4", "1"]);
});

test("evidence is told in a line", () => {
  const number = (value: number) => value.toFixed(1);
  expect(told({ genres: { Horror: [0.04, 0.31] }, share_gained: 0.25 }, number)).toBe(
    "genres Horror 0.0 → 0.3, share gained 0.3",
  );
  expect(told({ items: [7, 9], source: "live", usual: null }, number)).toBe(
    "items 7, 9, source live, usual null",
  );
});

test.each([
  ["https://example.org/a", true],
  ["/runbooks/a", true],
  ["//example.org/a", false],
  ["/\\example.org", false],
  ["docs/runbooks/a.md", false],
  ["javascript:alert(1)", false],
])("%s can be opened: %s", (address, can) => {
  expect(isLink(address)).toBe(can);
});
