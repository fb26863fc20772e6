import { Slider as Radix } from "radix-ui";
import { useId, type ReactNode } from "react";
import styles from "./slider.module.css";

interface Props {
  label: string;
  value: number;
  onChange: (value: number) => void;
  /** When the thumb is let go: the moment to ask the API. */
  onCommit?: (value: number) => void;
  min?: number;
  max?: number;
  step?: number;
  /** What the value means, for eye and ear: "40 %", "very varied". */
  format?: (value: number) => string;
  ends?: [ReactNode, ReactNode];
}

export function Slider({
  label,
  value,
  onChange,
  onCommit,
  min = 0,
  max = 1,
  step = 0.1,
  format,
  ends,
}: Props) {
  const id = useId();
  const text = format ? format(value) : String(value);
  return (
    <div className={styles.slider}>
      <div className={styles.head}>
        <span id={id}>{label}</span>
        <output>{text}</output>
      </div>
      <Radix.Root
        className={styles.root}
        value={[value]}
        min={min}
        max={max}
        step={step}
        onValueChange={([next]) => next !== undefined && onChange(next)}
        onValueCommit={([next]) => next !== undefined && onCommit?.(next)}
      >
        <Radix.Track className={styles.track}>
          <Radix.Range className={styles.range} />
        </Radix.Track>
        <Radix.Thumb className={styles.thumb} aria-labelledby={id} aria-valuetext={text} />
      </Radix.Root>
      {ends ? (
        <div className={styles.ends}>
          <span>{ends[0]}</span>
          <span>{ends[1]}</span>
        </div>
      ) : null}
    </div>
  );
}
