import type { Point, Series } from "../charts/series";
import type { Schemas } from "../types";
import type { Metric } from "./queries";

type Look = Schemas["LookBody"];
type Comparison = Schemas["ComparisonBody"];

/** The always-valid interval of each arm's difference at every look: where it leaves 0, it is decided. */
export function intervalSeries(
  looks: readonly Look[],
  metric: Metric,
  slice: Comparison["slice"],
  nameOf: (arm: string) => string,
): Series[] {
  const points = new Map<string, Point[]>();
  for (const { measured_at, comparisons } of looks) {
    for (const one of comparisons) {
      if (one.metric !== metric || one.slice !== slice) continue;
      const known = points.get(one.arm) ?? [];
      known.push({ x: Date.parse(measured_at), y: one.value, low: one.always_low, high: one.always_high });
      points.set(one.arm, known);
    }
  }
  return [...points].map(([arm, own]) => ({ id: arm, name: nameOf(arm), points: own }));
}

/** The metrics that were measured, in their order. */
export function metricsOf(looks: readonly Look[]): Metric[] {
  return [...new Set(looks.flatMap(({ comparisons }) => comparisons.map(({ metric }) => metric)))];
}
