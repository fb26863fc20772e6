import { BellOff } from "lucide-react";
import { useTranslation } from "react-i18next";
import { EmptyState } from "../../components/states";
import { Badge, Notice } from "../parts/badge";
import { secondsBetween, useNow, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import { Table } from "../parts/table";
import styles from "./monitoring.module.css";
import { useAlerts, type Alert } from "./queries";
import { isLink } from "./trends";
import { SEVERITY_TONES } from "./words";

/** What somebody should look at, and the page that says how. */
export function Alerts() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const alerts = useAlerts();
  return (
    <Section
      title={t("monitoring.alerts")}
      lead={alerts.data ? t(`monitoring.alertsFrom.${alerts.data.source}`) : t("loading")}
    >
      <Loaded query={alerts} height="10rem">
        {(found) => (
          <>
            {found.error ? (
              <Notice tone="warn" title={t("monitoring.incomplete")}>
                <p lang="en">{found.error}</p>
              </Notice>
            ) : null}
            {found.alerts.length > 0 ? (
              <AlertTable alerts={found.alerts} />
            ) : found.error ? null : (
              <EmptyState
                icon={<BellOff />}
                title={t("monitoring.noAlerts")}
                detail={t("monitoring.noAlertsDetail")}
              />
            )}
            {found.total > found.alerts.length ? (
              <p className={styles.quiet}>
                {t("monitoring.shownOf", {
                  shown: format.number(found.alerts.length),
                  total: format.number(found.total),
                })}
              </p>
            ) : null}
          </>
        )}
      </Loaded>
    </Section>
  );
}

function AlertTable({ alerts }: { alerts: readonly Alert[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const now = useNow(15_000);
  return (
    <Table
      caption={t("monitoring.alerts")}
      rows={alerts}
      rowKey={({ alert_id }) => alert_id}
      columns={[
        {
          key: "what",
          label: t("monitoring.what"),
          cell: ({ summary, description }) => (
            <span lang="en">
              {summary}
              {description ? <span className={styles.detail}>{description}</span> : null}
            </span>
          ),
        },
        {
          key: "severity",
          label: t("monitoring.level"),
          cell: ({ severity }) => (
            <Badge tone={SEVERITY_TONES[severity]}>{t(`monitoring.severity.${severity}`)}</Badge>
          ),
        },
        {
          key: "since",
          label: t("monitoring.since"),
          cell: ({ since }) => (
            <time className={styles.time} dateTime={since} title={format.dateTime(since)}>
              {format.ago(secondsBetween(since, now))}
            </time>
          ),
        },
        { key: "runbook", label: t("monitoring.runbook"), cell: (alert) => <Runbook alert={alert} /> },
      ]}
    />
  );
}

function Runbook({ alert: { runbook_url: address, name } }: { alert: Alert }) {
  const { t } = useTranslation("ops");
  if (address === null) return t("none");
  if (!isLink(address)) return <span className={styles.path}>{address}</span>;
  return (
    <a href={address} target="_blank" rel="noreferrer">
      {t("monitoring.openRunbook")}
      <span className="visually-hidden">
        : {name} ({t("monitoring.newTab")})
      </span>
    </a>
  );
}
