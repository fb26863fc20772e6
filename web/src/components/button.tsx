import type { ComponentProps } from "react";
import { Link } from "react-router";
import styles from "./button.module.css";

type Variant = "primary" | "secondary" | "quiet" | "danger";

interface Look {
  variant?: Variant;
  size?: "s" | "m";
}

export function Button({
  variant = "secondary",
  size = "m",
  busy = false,
  className,
  children,
  ...rest
}: ComponentProps<"button"> & Look & { busy?: boolean }) {
  return (
    <button
      type="button"
      {...rest}
      className={[styles.button, className].filter(Boolean).join(" ")}
      data-variant={variant}
      data-size={size}
      aria-busy={busy || undefined}
      disabled={rest.disabled === true || busy}
    >
      {children}
    </button>
  );
}

/** A link that looks like a button. */
export function ButtonLink({
  variant = "secondary",
  size = "m",
  className,
  ...rest
}: ComponentProps<typeof Link> & Look) {
  return (
    <Link
      {...rest}
      className={[styles.button, className].filter(Boolean).join(" ")}
      data-variant={variant}
      data-size={size}
    />
  );
}

/** A button that is only an icon; `label` is its name and its tooltip. */
export function IconButton({
  label,
  variant = "quiet",
  size = "m",
  pressed,
  className,
  children,
  ...rest
}: Omit<ComponentProps<"button">, "aria-label"> & Look & { label: string; pressed?: boolean }) {
  return (
    <button
      type="button"
      title={label}
      {...rest}
      aria-label={label}
      aria-pressed={pressed}
      className={[styles.button, styles.icon, className].filter(Boolean).join(" ")}
      data-variant={variant}
      data-size={size}
    >
      {children}
    </button>
  );
}
