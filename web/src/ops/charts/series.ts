/** What a chart draws: one line, or row of bars, with an interval where there is one. */
export interface Series {
  id: string;
  name: string;
  points: readonly Point[];
}

export interface Point {
  x: number;
  y: number | null;
  low?: number | null;
  high?: number | null;
}

/** A row of the chart: `x`, and for each series its value and its interval. */
export type ChartRow = { x: number } & Record<string, number | null | [number, number]>;

/** The series side by side at every x that any of them has. */
export function chartRows(series: readonly Series[]): ChartRow[] {
  const rows = new Map<number, ChartRow>();
  for (const { id, points } of series) {
    for (const { x, y, low, high } of points) {
      const row = rows.get(x) ?? { x };
      row[id] = y;
      row[bandOf(id)] =
        low === null || low === undefined || high === null || high === undefined ? null : [low, high];
      rows.set(x, row);
    }
  }
  return [...rows.values()].sort((one, other) => one.x - other.x);
}

export function bandOf(id: string): string {
  return `${id}:band`;
}

/** Whether any of them has an interval. */
export function hasBands(series: readonly Series[]): boolean {
  return series.some(({ points }) =>
    points.some(({ low, high }) => typeof low === "number" && typeof high === "number"),
  );
}

export const COLOURS = ["var(--chart-1)", "var(--chart-2)", "var(--chart-3)", "var(--chart-4)"];

export function colourOf(at: number): string {
  return COLOURS[at % COLOURS.length] ?? "var(--chart-1)";
}

/** How far the interval reaches below and above the value. */
export function reachOf(row: ChartRow, id: string): [number, number] {
  const [value, band] = [row[id], row[bandOf(id)]];
  return typeof value === "number" && Array.isArray(band) ? [value - band[0], band[1] - value] : [0, 0];
}

/** Five lines, evenly. */
export function ticksOf([low, high]: [number, number]): number[] {
  return [0, 1, 2, 3, 4].map((step) => low + (step * (high - low)) / 4);
}
