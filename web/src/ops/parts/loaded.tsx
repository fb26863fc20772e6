import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Skeleton } from "../../components/skeleton";
import { ErrorState } from "../../components/states";
import styles from "./loaded.module.css";

interface Props<T> {
  query: Pick<UseQueryResult<T>, "data" | "error" | "refetch">;
  /** Of what will be there, so that nothing moves when it comes. */
  height?: string;
  children: (data: T) => ReactNode;
}

/** An answer of the API, its place while it is on its way, or why it did not come. */
export function Loaded<T>({ query, height = "12rem", children }: Props<T>) {
  const { t } = useTranslation("ops");
  if (query.data !== undefined) {
    return (
      <>
        {query.error ? (
          <p className={styles.stale} role="status">
            {t("stale")}
          </p>
        ) : null}
        {children(query.data)}
      </>
    );
  }
  if (query.error) return <ErrorState error={query.error} onRetry={query.refetch} />;
  return (
    <div aria-busy="true">
      <span className="visually-hidden">{t("loading")}</span>
      <Skeleton height={height} radius="var(--r-2)" />
    </div>
  );
}
