import type { Series } from "../charts/series";
import { shortVersion } from "../parts/format";
import type { Schemas } from "../types";

export function seriesOf({ arm, points }: Schemas["OutcomeSeries"], name: string): Series {
  return {
    id: arm,
    name,
    points: points.map(({ at, value, low, high }) => ({ x: Date.parse(at), y: value, low, high })),
  };
}

/** From 0 to the highest end of all, so that charts of one metric can be compared by eye. */
export function commonRange(series: readonly Schemas["OutcomeSeries"][]): [number, number] {
  const ends = series.flatMap(({ points }) => points.map(({ value, high }) => Math.max(value, high ?? 0)));
  const most = Math.max(0.01, ...ends);
  const step = 10 ** Math.floor(Math.log10(most)) / 2;
  return [0, Math.min(1, Math.ceil(most / step) * step)];
}

/** Arms are named after versions where nobody named them. */
export function armName(arm: string): string {
  return /^\d{8}T/.test(arm) ? shortVersion(arm) : arm;
}
