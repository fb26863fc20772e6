import { CloudOff, Film } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Problem } from "../client/api";
import { Button } from "./button";
import styles from "./states.module.css";

interface EmptyProps {
  title: string;
  detail?: string | undefined;
  icon?: ReactNode;
  action?: ReactNode;
}

export function EmptyState({ title, detail, icon = <Film />, action }: EmptyProps) {
  return (
    <div className={styles.state}>
      <span className={styles.icon} aria-hidden="true">
        {icon}
      </span>
      <p className={styles.title}>{title}</p>
      {detail ? <p className={styles.detail}>{detail}</p> : null}
      {action}
    </div>
  );
}

interface ErrorProps {
  error: Error;
  onRetry?: (() => unknown) | undefined;
  title?: string;
}

/** What went wrong and what to do next, in the API's words where it gave any. */
export function ErrorState({ error, onRetry, title }: ErrorProps) {
  const { t } = useTranslation();
  const problem = error instanceof Problem ? error : null;
  const detail = problem?.unreachable ? t("error.unreachable") : error.message;
  return (
    <div className={styles.state} role="alert">
      <span className={styles.icon} aria-hidden="true">
        <CloudOff />
      </span>
      <p className={styles.title}>{title ?? t("error.title")}</p>
      {detail ? <p className={styles.detail}>{detail}</p> : null}
      {problem?.fix ? <p className={styles.detail}>{problem.fix}</p> : null}
      {onRetry ? <Button onClick={() => void onRetry()}>{t("action.retry")}</Button> : null}
      {problem?.requestId ? (
        <p className={styles.fine}>{t("error.request", { id: problem.requestId })}</p>
      ) : null}
    </div>
  );
}
