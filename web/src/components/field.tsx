import { ChevronDown } from "lucide-react";
import { useId, type ComponentProps, type ReactNode } from "react";
import styles from "./field.module.css";

export interface FieldFault {
  message: string;
  /** What to do about it. */
  fix?: string | null | undefined;
}

interface Wiring {
  id: string;
  "aria-invalid": true | undefined;
  "aria-describedby": string | undefined;
}

interface Props {
  label: ReactNode;
  hint?: ReactNode;
  fault?: FieldFault | undefined;
  children: (wiring: Wiring) => ReactNode;
}

/** A labelled control with what is wrong with it beside it: `{(wiring) => <Input {...wiring} />}`. */
export function Field({ label, hint, fault, children }: Props) {
  const id = useId();
  const said = [hint ? `${id}-hint` : "", fault ? `${id}-fault` : ""].filter(Boolean).join(" ");
  return (
    <div className={styles.field}>
      <label className={styles.label} htmlFor={id}>
        {label}
      </label>
      {children({
        id,
        "aria-invalid": fault ? true : undefined,
        "aria-describedby": said || undefined,
      })}
      {hint ? (
        <p id={`${id}-hint`} className={styles.hint}>
          {hint}
        </p>
      ) : null}
      {fault ? <Fault id={`${id}-fault`} {...fault} /> : null}
    </div>
  );
}

export function Fault({ id, message, fix }: FieldFault & { id?: string }) {
  return (
    <p id={id} className={styles.fault}>
      {message}
      {fix ? <span className={styles.fix}>{fix}</span> : null}
    </p>
  );
}

export function Input({ className, ...rest }: ComponentProps<"input">) {
  return <input {...rest} className={[styles.control, className].filter(Boolean).join(" ")} />;
}

export function Select({ className, children, ...rest }: ComponentProps<"select">) {
  return (
    <span className={styles.select}>
      <select {...rest} className={[styles.control, className].filter(Boolean).join(" ")}>
        {children}
      </select>
      <ChevronDown size={16} aria-hidden="true" />
    </span>
  );
}
