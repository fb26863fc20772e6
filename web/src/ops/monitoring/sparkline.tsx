import styles from "./monitoring.module.css";
import { cornersOf } from "./trends";

const SIZE = [128, 28] as const;

interface Props {
  points: readonly { x: number; y: number }[];
  threshold: number;
  /** What it shows in a sentence. */
  label: string;
}

/** A small line over time, with the value from which it matters dashed across. */
export function Sparkline({ points, threshold, label }: Props) {
  const [width, height] = SIZE;
  const most = 1.15 * Math.max(threshold, ...points.map(({ y }) => y));
  const corners = cornersOf(points, most, SIZE);
  const last = corners.at(-1);
  const across = height - (threshold / most) * height;
  return (
    <svg
      className={styles.sparkline}
      role="img"
      aria-label={label}
      width={width}
      height={height}
      viewBox={`-3 -3 ${width + 6} ${height + 6}`}
    >
      <line className={styles.threshold} x1={0} x2={width} y1={across} y2={across} />
      <polyline points={corners.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")} />
      {last ? <circle cx={last.x} cy={last.y} r={2.5} /> : null}
    </svg>
  );
}
