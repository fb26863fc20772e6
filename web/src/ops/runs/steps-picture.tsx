import { Check, CircleDashed, Clock, LoaderCircle, Minus, X } from "lucide-react";
import { useTranslation } from "react-i18next";
import { secondsBetween, useNow, useOpsFormat } from "../parts/format";
import type { Run } from "../types";
import { stepsOf, type Step } from "./steps";
import styles from "./steps-picture.module.css";
import { usePipelineName } from "./words";

const ICONS = {
  succeeded: Check,
  running: LoaderCircle,
  queued: Clock,
  failed: X,
  cancelled: Minus,
  waiting: CircleDashed,
  skipped: Minus,
};

/** A run drawn as its steps, one after the other. */
export function StepsPicture({ run, small = false }: { run: Run; small?: boolean }) {
  const { t } = useTranslation("ops");
  const now = useNow(run.finished_at === null ? 1_000 : null);
  return (
    <ol role="list" className={styles.steps} data-small={small} aria-label={t("runs.steps")}>
      {stepsOf(run).map((step) => (
        <li key={step.name} data-status={step.status}>
          <Node step={step} now={now} small={small} />
        </li>
      ))}
    </ol>
  );
}

function Node({ step, now, small }: { step: Step; now: number; small: boolean }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const name = usePipelineName();
  const Icon = ICONS[step.status];
  const status = t(`runs.status.${step.status}`);
  const took =
    step.startedAt === null ? null : format.duration(secondsBetween(step.startedAt, step.finishedAt ?? now));
  return (
    <>
      <span className={styles.dot} title={small ? `${name(step.name)}: ${status}` : undefined}>
        <Icon size={small ? 12 : 18} aria-hidden="true" />
      </span>
      <span className={small ? "visually-hidden" : styles.text}>
        <strong>{name(step.name)}</strong>
        <span>
          {status}
          {step.status === "running" && step.progress !== null ? ` · ${format.percent(step.progress)}` : ""}
        </span>
        {took ? <span className={styles.took}>{took}</span> : null}
      </span>
    </>
  );
}
