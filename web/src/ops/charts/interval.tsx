import styles from "./interval.module.css";

export interface Range {
  value: number | null;
  low: number | null;
  high: number | null;
}

/** From where to where a row of intervals is drawn, so that they can be compared; 0 is always inside. */
export function scaleOf(ranges: readonly Range[]): [number, number] {
  const ends = ranges.flatMap(({ value, low, high }) => [value, low, high]).filter((end) => end !== null);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const margin = (high - low || 1) * 0.06;
  return [low - margin, high + margin];
}

/** A difference with its interval around the line of no difference; its text stands beside it. */
export function Interval({
  range: { value, low, high },
  scale: [from, to],
  tone,
}: {
  range: Range;
  scale: [number, number];
  tone: "good" | "bad" | "plain";
}) {
  const at = (point: number) => `${(100 * (point - from)) / (to - from)}%`;
  return (
    <span className={styles.interval} data-tone={tone} aria-hidden="true">
      <span className={styles.zero} style={{ insetInlineStart: at(0) }} />
      {low !== null && high !== null ? (
        <span
          className={styles.range}
          style={{ insetInlineStart: at(low), inlineSize: `${(100 * (high - low)) / (to - from)}%` }}
        />
      ) : null}
      {value !== null ? <span className={styles.value} style={{ insetInlineStart: at(value) }} /> : null}
    </span>
  );
}
