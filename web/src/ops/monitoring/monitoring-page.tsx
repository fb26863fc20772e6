import { Radar } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { EmptyState } from "../../components/states";
import { Select } from "../parts/field";
import { secondsBetween, useNow, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage } from "../parts/page";
import { Alarms } from "./alarms";
import { Alerts } from "./alerts";
import { Features } from "./features";
import { Quality } from "./quality";
import { useDrift } from "./queries";

const DAYS = ["7", "30", "90", "365"] as const;

export function MonitoringPage() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const now = useNow(15_000);
  const [days, setDays] = useState<(typeof DAYS)[number]>("7");
  const drift = useDrift(Number(days));
  const at = drift.data?.computed_at;
  return (
    <OpsPage
      title={t("monitoring.title")}
      lead={
        at ? t("monitoring.computed", { ago: format.ago(secondsBetween(at, now)) }) : t("monitoring.lead")
      }
      actions={
        <Select
          inline
          label={t("monitoring.span")}
          value={days}
          options={DAYS.map((value) => ({ value, label: t(`monitoring.days.${value}`) }))}
          onChange={setDays}
        />
      }
    >
      <Alerts />
      <Loaded query={drift} height="40rem">
        {({ computed_at, features, history, alarms }) =>
          computed_at === null && alarms.length === 0 ? (
            <EmptyState icon={<Radar />} title={t("monitoring.never")} detail={t("monitoring.neverDetail")} />
          ) : (
            <>
              <Features features={features} history={history} />
              <Alarms alarms={alarms} />
              <Quality history={history} />
            </>
          )
        }
      </Loaded>
    </OpsPage>
  );
}
