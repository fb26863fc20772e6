import { useId, type ReactNode } from "react";
import { Fault, Input, type FieldFault } from "../../components/field";
import { Slider } from "../../components/slider";
import { numberOf } from "./draft";
import styles from "./predictor.module.css";

interface Props {
  label: string;
  /** Name of the number field, with its unit. */
  exact: string;
  text: string;
  onChange: (text: string) => void;
  /** Of the slider; more can be typed. */
  max: number;
  step: number;
  format: (value: number) => string;
  fault: FieldFault | undefined;
  /** Below: a value to take over. */
  children?: ReactNode;
}

/** A number to drag or to type. */
export function Amount({ label, exact, text, onChange, max, step, format, fault, children }: Props) {
  const id = useId();
  const value = numberOf(text, Number.MAX_SAFE_INTEGER) ?? 0;
  return (
    <div className={styles.amount}>
      <Slider
        label={label}
        value={Math.min(value, max)}
        onChange={(next) => onChange(String(next))}
        max={max}
        step={step}
        format={() => format(value)}
      />
      <Input
        className={styles.number}
        aria-label={exact}
        aria-invalid={fault ? true : undefined}
        aria-describedby={fault ? id : undefined}
        inputMode="decimal"
        autoComplete="off"
        required
        value={text}
        onChange={(event) => onChange(event.target.value)}
      />
      {children ? <div className={styles.wide}>{children}</div> : null}
      {fault ? (
        <div className={styles.wide}>
          <Fault id={id} {...fault} />
        </div>
      ) : null}
    </div>
  );
}
