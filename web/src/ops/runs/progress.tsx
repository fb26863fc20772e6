import { useTranslation } from "react-i18next";
import { useOpsFormat } from "../parts/format";
import type { Run } from "../types";
import styles from "./progress.module.css";

/** How far a run is, and what it is doing. */
export function Progress({ run }: { run: Run }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  if (run.status !== "running") return null;
  const { progress } = run;
  return (
    <div className={styles.progress}>
      <div
        className={styles.track}
        role="progressbar"
        aria-label={t("runs.progress")}
        aria-valuemin={0}
        aria-valuemax={100}
        {...(progress === null ? {} : { "aria-valuenow": Math.round(100 * progress) })}
        data-unknown={progress === null}
      >
        <span style={{ inlineSize: progress === null ? "35%" : `${100 * progress}%` }} />
      </div>
      <p>
        <span lang="en">{run.step}</span>
        {progress === null ? null : <span>{format.percent(progress)}</span>}
      </p>
    </div>
  );
}
