import type { Series } from "../charts/series";
import type { Schemas } from "../types";

const SIDE = /^(train|validation|test)_/;

/** Curves of one metric, of training and validation, in one chart: `train_loss` and `validation_loss`. */
export function chartsOf(curves: readonly Schemas["Curve"][]): { name: string; series: Series[] }[] {
  const charts = new Map<string, Series[]>();
  for (const { name, steps, values } of curves) {
    const metric = name.replace(SIDE, "");
    const points = steps.map((x, at) => ({ x, y: values[at] ?? null }));
    charts.set(metric, [...(charts.get(metric) ?? []), { id: name, name, points }]);
  }
  return [...charts].map(([name, series]) => ({ name, series }));
}
