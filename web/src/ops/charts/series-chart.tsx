import {
  Area,
  Bar,
  CartesianGrid,
  ComposedChart,
  ErrorBar,
  Line,
  ReferenceLine,
  ResponsiveContainer,
  Tooltip,
  XAxis,
  YAxis,
} from "recharts";
import styles from "./chart.module.css";
import {
  bandOf,
  chartRows,
  colourOf,
  hasBands,
  reachOf,
  ticksOf,
  type ChartRow,
  type Series,
} from "./series";

export interface SeriesChartProps {
  series: readonly Series[];
  kind: "line" | "bars";
  formatX: (x: number) => string;
  formatY: (y: number) => string;
  /** A line across at 0, that intervals either cross or leave. */
  zero?: boolean;
  /** Colours begin at this one, so that an arm keeps its own over many charts. */
  firstColour?: number;
  range?: [number, number];
}

/** The drawing alone; `Chart` puts title, legend and table around it and loads this chunk. */
export default function SeriesChart(props: SeriesChartProps) {
  const { series, kind, formatX, formatY, zero = false, firstColour = 0, range } = props;
  const bands = hasBands(series);
  // A band needs neighbours; an interval that stands alone is drawn as a bar.
  const few = series.every(({ points }) => points.length < 3);
  const axis = { stroke: "var(--text-2)", tick: { fill: "var(--text-2)", fontSize: 12 }, tickLine: false };
  return (
    <ResponsiveContainer width="100%" height="100%" initialDimension={{ width: 320, height: 180 }}>
      <ComposedChart
        data={chartRows(series)}
        margin={{ top: 8, right: 8, bottom: 0, left: 0 }}
        // The table beside the chart is for the keyboard and for screen readers.
        accessibilityLayer={false}
      >
        <CartesianGrid vertical={false} stroke="var(--line)" />
        <XAxis
          {...axis}
          dataKey="x"
          {...(kind === "line" ? { type: "number" as const, domain: ["dataMin", "dataMax"] } : {})}
          tickFormatter={formatX}
          minTickGap={36}
          axisLine={{ stroke: "var(--line-strong)" }}
        />
        <YAxis
          {...axis}
          width={56}
          tickFormatter={formatY}
          axisLine={false}
          tickCount={5}
          allowDecimals={kind === "line"}
          {...(range ? { domain: range, ticks: ticksOf(range) } : {})}
          {...(!range && kind === "bars" ? { domain: [0, "auto"] } : {})}
          {...(!range && kind === "line" ? { domain: ["auto", "auto"] } : {})}
        />
        <Tooltip
          isAnimationActive={false}
          cursor={kind === "bars" ? { fill: "var(--surface-2)" } : { stroke: "var(--line-strong)" }}
          content={({ active, payload, label }) =>
            active && payload.length > 0 ? (
              <div className={styles.tooltip}>
                <p>{formatX(Number(label))}</p>
                {payload.map((entry) => (
                  <p key={String(entry.dataKey)}>
                    {typeof entry.value === "number"
                      ? `${String(entry.name)}: ${formatY(entry.value)}`
                      : Array.isArray(entry.value)
                        ? `${formatY(Number(entry.value[0]))} … ${formatY(Number(entry.value[1]))}`
                        : null}
                  </p>
                ))}
              </div>
            ) : null
          }
        />
        {zero ? <ReferenceLine y={0} stroke="var(--text-2)" strokeDasharray="4 4" /> : null}
        {bands && !few
          ? series.map(({ id }, at) => (
              <Area
                key={bandOf(id)}
                dataKey={bandOf(id)}
                stroke="none"
                fill={colourOf(firstColour + at)}
                fillOpacity={0.2}
                connectNulls={false}
                isAnimationActive={false}
                activeDot={false}
                type="linear"
              />
            ))
          : null}
        {series.map(({ id, name, points }, at) =>
          kind === "bars" ? (
            <Bar
              key={id}
              dataKey={id}
              name={name}
              fill={colourOf(firstColour + at)}
              radius={[2, 2, 0, 0]}
              isAnimationActive={false}
            />
          ) : (
            <Line
              key={id}
              dataKey={id}
              name={name}
              stroke={colourOf(firstColour + at)}
              strokeWidth={2}
              // Lines also differ without colour.
              {...(at % 2 === 1 ? { strokeDasharray: "7 4" } : {})}
              dot={points.length < 20 ? { r: 3, strokeWidth: 0, fill: colourOf(firstColour + at) } : false}
              connectNulls
              isAnimationActive={false}
              type="linear"
            >
              {bands && few ? (
                <ErrorBar
                  dataKey={(row: ChartRow) => reachOf(row, id)}
                  stroke={colourOf(firstColour + at)}
                  strokeWidth={2}
                  width={6}
                />
              ) : null}
            </Line>
          ),
        )}
      </ComposedChart>
    </ResponsiveContainer>
  );
}
