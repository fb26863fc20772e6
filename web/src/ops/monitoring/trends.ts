import type { Series } from "../charts/series";
import { armName } from "../data/outcome-series";
import type { Alert, Feature, Point } from "./queries";

export const MEASURES = [
  "hit_rate",
  "coverage",
  "gini",
  "novelty_bits",
  "popularity_share",
  "cold_users",
  "fallback",
  "answers",
] as const;
export type Measure = (typeof MEASURES)[number];

/** A figure of quality over time: one line, or of outcomes one for each arm. */
export function qualitySeries(history: readonly Point[], measure: Measure, name: string): Series[] {
  if (measure !== "hit_rate") {
    const points = history.map(({ at, quality }) => ({ x: Date.parse(at), y: quality[measure] }));
    return [{ id: measure, name, points }];
  }
  const arms = new Set(history.flatMap(({ quality }) => Object.keys(quality.outcomes[measure] ?? {})));
  return [...arms].sort().map((arm) => ({
    id: arm,
    name: armName(arm),
    points: history.map(({ at, quality }) => ({
      x: Date.parse(at),
      y: quality.outcomes[measure]?.[arm] ?? null,
    })),
  }));
}

/** What a feature's newest window showed, look by look. */
export function effectsOf(history: readonly Point[], feature: string): { x: number; y: number }[] {
  return history.flatMap(({ at, effects }) => {
    const y = effects[feature];
    return y === undefined ? [] : [{ x: Date.parse(at), y }];
  });
}

/** Corners of a line in a box from 0 to `most`, in which y points down. */
export function cornersOf(
  points: readonly { x: number; y: number }[],
  most: number,
  [width, height]: readonly [number, number],
): { x: number; y: number }[] {
  const first = points[0]?.x ?? 0;
  const span = (points.at(-1)?.x ?? 0) - first;
  return points.map(({ x, y }) => ({
    x: span > 0 ? ((x - first) / span) * width : width / 2,
    y: height - (Math.min(Math.max(y, 0), most) / most) * height,
  }));
}

/** Features that moved come first, in the order in which they came otherwise. */
export function byUrgency(features: readonly Feature[]): Feature[] {
  const order = ["drift", "shifted", "stable", "unknown"] as const;
  return [...features].sort((one, other) => order.indexOf(one.status) - order.indexOf(other.status));
}

/** Evidence in a line: `genres Horror 0.04 → 0.31`. */
export function told(detail: unknown, number: (value: number) => string): string {
  // Ids and counts are shown as they are.
  if (typeof detail === "number" && !Number.isInteger(detail)) return number(detail);
  if (Array.isArray(detail)) {
    const joint = detail.every((each) => typeof each === "number" && !Number.isInteger(each)) ? " → " : ", ";
    return detail.map((each) => told(each, number)).join(joint);
  }
  if (typeof detail === "object" && detail !== null) {
    return Object.entries(detail)
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${told(value, number)}`)
      .join(", ");
  }
  return typeof detail === "string" ? detail : JSON.stringify(detail);
}

/** Where a runbook can be opened from this page; a path within the repository cannot. */
export function isLink(address: string): boolean {
  return /^https?:\/\//.test(address) || /^\/(?![/\\])/.test(address);
}

export function worst(alerts: readonly Alert[]): Alert["severity"] {
  return alerts[0]?.severity ?? "info";
}
