import { ChevronRight } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { Skeleton } from "../../components/skeleton";
import { useTitle } from "../../shell/page";
import styles from "./page.module.css";

interface Props {
  title: string;
  lead?: ReactNode;
  /** Buttons beside the title. */
  actions?: ReactNode;
  /** The page above this one. */
  up?: { to: string; label: string };
  children: ReactNode;
}

/** A page of the console, beside its menu. */
export function OpsPage({ title, lead, actions, up, children }: Props) {
  const { t } = useTranslation("ops");
  useTitle(`${title} · ${t("title")}`);
  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <div>
          {up ? (
            <p className={styles.up}>
              <Link to={up.to}>{up.label}</Link>
              <ChevronRight size={14} aria-hidden="true" />
            </p>
          ) : null}
          <h1>{title}</h1>
          {lead ? <p className={styles.lead}>{lead}</p> : null}
        </div>
        {actions ? <div className={styles.actions}>{actions}</div> : null}
      </header>
      {children}
    </div>
  );
}

/** A part of a page. */
export function Section({
  title,
  lead,
  actions,
  children,
}: {
  title: string;
  lead?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <section className={styles.section}>
      <div className={styles.sectionHead}>
        <div>
          <h2>{title}</h2>
          {lead ? <p className={styles.lead}>{lead}</p> : null}
        </div>
        {actions ? <div className={styles.actions}>{actions}</div> : null}
      </div>
      {children}
    </section>
  );
}

/** Sections side by side where there is room. */
export function Columns({ children, wide = false }: { children: ReactNode; wide?: boolean }) {
  return <div className={wide ? styles.wideColumns : styles.columns}>{children}</div>;
}

export function PageSkeleton() {
  return (
    <div className={styles.page} aria-busy="true">
      <Skeleton width="12rem" height="2rem" />
      <Skeleton height="8rem" radius="var(--r-3)" />
      <Skeleton height="16rem" radius="var(--r-3)" />
    </div>
  );
}
