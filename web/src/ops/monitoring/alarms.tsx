import { History } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { EmptyState } from "../../components/states";
import { Badge } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Section } from "../parts/page";
import { Table } from "../parts/table";
import styles from "./monitoring.module.css";
import type { Alarm } from "./queries";
import { told } from "./trends";

/** Drift that was found: what it was based on, and the run that trained anew because of it. */
export function Alarms({ alarms }: { alarms: readonly Alarm[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  return (
    <Section title={t("monitoring.alarms")} lead={t("monitoring.alarmsLead")}>
      {alarms.length === 0 ? (
        <EmptyState
          icon={<History />}
          title={t("monitoring.noAlarms")}
          detail={t("monitoring.noAlarmsDetail")}
        />
      ) : (
        <Table
          caption={t("monitoring.alarms")}
          rows={alarms}
          rowKey={({ alarm_id }) => alarm_id}
          columns={[
            { key: "kind", label: t("monitoring.alarm"), cell: ({ kind }) => t(`monitoring.kind.${kind}`) },
            { key: "state", label: t("monitoring.state"), cell: (alarm) => <State alarm={alarm} /> },
            {
              key: "raised",
              label: t("monitoring.raised"),
              cell: ({ raised_at }) => <span className={styles.time}>{format.dateTime(raised_at)}</span>,
            },
            {
              key: "ended",
              label: t("monitoring.ended"),
              cell: ({ resolved_at }) =>
                resolved_at === null ? (
                  t("none")
                ) : (
                  <span className={styles.time}>{format.dateTime(resolved_at)}</span>
                ),
            },
            {
              key: "run",
              label: t("monitoring.retraining"),
              cell: ({ run_id }) =>
                run_id === null ? (
                  t("none")
                ) : (
                  <Link className={styles.time} to={`/ops/runs/${run_id}`}>
                    {t("monitoring.run")} {run_id.slice(0, 8)}
                  </Link>
                ),
            },
            {
              key: "evidence",
              label: t("monitoring.evidence"),
              cell: ({ evidence }) => (
                <span className={styles.detail} lang="en">
                  {told(evidence.detail ?? {}, (value) => format.figure(value, 2))}
                </span>
              ),
            },
          ]}
        />
      )}
    </Section>
  );
}

function State({ alarm: { resolved_at, evidence } }: { alarm: Alarm }) {
  const { t } = useTranslation("ops");
  if (resolved_at === null) return <Badge tone="bad">{t("monitoring.open")}</Badge>;
  const why = evidence.resolved;
  return (
    <Badge tone="good">
      {why === "retrained" || why === "subsided" ? t(`monitoring.over.${why}`) : t("monitoring.resolved")}
    </Badge>
  );
}
