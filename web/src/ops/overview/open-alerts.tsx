import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { useAlerts } from "../monitoring/queries";
import { worst } from "../monitoring/trends";
import { SEVERITY_TONES } from "../monitoring/words";
import { Notice } from "../parts/badge";
import { useOpsFormat } from "../parts/format";

const NAMED = 3;

/** The worst of what is wrong, where anything is. */
export function OpenAlerts() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const { data } = useAlerts();
  if (!data || data.total === 0) return null;
  return (
    <Notice
      tone={SEVERITY_TONES[worst(data.alerts)]}
      title={t("overview.alerts", { n: format.number(data.total) })}
    >
      {data.alerts.slice(0, NAMED).map(({ alert_id, summary }) => (
        <p key={alert_id} lang="en">
          {summary}
        </p>
      ))}
      <p>
        <Link to="/ops/monitoring">{t("overview.alertsLink")}</Link>
      </p>
    </Notice>
  );
}
