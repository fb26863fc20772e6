import { AlertTriangle, CheckCircle2, CircleDashed, Info, LoaderCircle, XCircle } from "lucide-react";
import type { ReactNode } from "react";
import styles from "./badge.module.css";

export type Tone = "good" | "warn" | "bad" | "busy" | "plain" | "info";

const ICONS = {
  good: CheckCircle2,
  warn: AlertTriangle,
  bad: XCircle,
  busy: LoaderCircle,
  plain: CircleDashed,
  info: Info,
};

/** A state in a word, with colour and a shape: neither says it alone. */
export function Badge({ tone, children }: { tone: Tone; children: ReactNode }) {
  const Icon = ICONS[tone];
  return (
    <span className={styles.badge} data-tone={tone}>
      <Icon size={14} aria-hidden="true" />
      {children}
    </span>
  );
}

/** A name in a frame: of a slot, a genre, a kind. */
export function Tag({ children }: { children: ReactNode }) {
  return <span className={styles.tag}>{children}</span>;
}

/** What an operator should read before anything else. */
export function Notice({ tone, title, children }: { tone: Tone; title: string; children?: ReactNode }) {
  const Icon = ICONS[tone];
  return (
    <div className={styles.notice} data-tone={tone}>
      <Icon size={18} aria-hidden="true" />
      <div>
        <p className={styles.noticeTitle}>{title}</p>
        {children}
      </div>
    </div>
  );
}
