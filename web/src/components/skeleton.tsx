import styles from "./skeleton.module.css";

interface Size {
  width?: string;
  height?: string;
  ratio?: string;
  radius?: string;
}

/** A grey place of the final size. Silent: whoever shows it says `aria-busy`. */
export function Skeleton({ width = "100%", height, ratio, radius = "var(--r-1)" }: Size) {
  return (
    <span
      aria-hidden="true"
      className={styles.skeleton}
      style={{ width, height: height ?? (ratio ? "auto" : "1em"), aspectRatio: ratio, borderRadius: radius }}
    />
  );
}
