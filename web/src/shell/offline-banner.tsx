import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { answers } from "../client/api";
import { markReachable, useReachable } from "../state/online";
import styles from "./shell.module.css";

const AGAIN_MS = 2_000;

/** Says that the service is away, looks for it, and reads everything anew when it is back. */
export function OfflineBanner() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const reachable = useReachable();
  useEffect(() => {
    if (reachable) return;
    const timer = setInterval(() => {
      void answers().then((back) => {
        if (back) markReachable();
      });
    }, AGAIN_MS);
    return () => {
      clearInterval(timer);
      void client.invalidateQueries();
    };
  }, [reachable, client]);
  return <div role="status">{reachable ? null : <p className={styles.banner}>{t("offline")}</p>}</div>;
}
