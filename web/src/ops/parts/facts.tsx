import type { ReactNode } from "react";
import styles from "./facts.module.css";

/** Names and values. Those without a value are left out. */
export function Facts({ facts }: { facts: readonly (readonly [label: string, value: ReactNode])[] }) {
  return (
    <dl className={styles.facts}>
      {facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** Figures in large type. */
export function Figures({ children }: { children: ReactNode }) {
  return <dl className={styles.figures}>{children}</dl>;
}

export function Figure({ label, value, note }: { label: string; value: ReactNode; note?: ReactNode }) {
  return (
    <div className={styles.figure}>
      <dt>{label}</dt>
      <dd>
        <span className={styles.value}>{value}</span>
        {note ? <span className={styles.note}>{note}</span> : null}
      </dd>
    </div>
  );
}

/** What a program wrote, by name: parameters, counts. Nested values are shown as JSON. */
export function Values({ values }: { values: Record<string, unknown> }) {
  return (
    <Facts
      facts={Object.entries(values).map(([name, value]) => [
        name,
        <code key={name} className={styles.code}>
          {typeof value === "string" ? value : JSON.stringify(value)}
        </code>,
      ])}
    />
  );
}

/** A bar per name, the longest full: for counts by genre, language, tier. */
export function Bars({ bars }: { bars: readonly { name: string; value: number; text: string }[] }) {
  const most = Math.max(...bars.map((bar) => bar.value), Number.EPSILON);
  return (
    <ul role="list" className={styles.bars}>
      {bars.map((bar) => (
        <li key={bar.name}>
          <span className={styles.barName}>{bar.name}</span>
          <span className={styles.track} aria-hidden="true">
            <span style={{ inlineSize: `${(100 * bar.value) / most}%` }} />
          </span>
          <span className={styles.barValue}>{bar.text}</span>
        </li>
      ))}
    </ul>
  );
}
