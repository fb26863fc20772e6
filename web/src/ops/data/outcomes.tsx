import { useQuery } from "@tanstack/react-query";
import { ChartNoAxesCombined } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { body, opsApi } from "../../client/api";
import { EmptyState } from "../../components/states";
import { Chart } from "../charts/chart";
import { opsKeys } from "../keys";
import { Select } from "../parts/field";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import type { Schemas } from "../types";
import styles from "./outcomes.module.css";
import { armName, commonRange, seriesOf } from "./outcome-series";

const HOURS = ["6", "24", "72", "168"] as const;

/** What became of the answers: a small chart for each metric and arm, with one scale per metric. */
export function Outcomes() {
  const { t } = useTranslation("ops");
  const [hours, setHours] = useState<(typeof HOURS)[number]>("24");
  const outcomes = useQuery({
    queryKey: opsKeys.outcomes(Number(hours)),
    queryFn: ({ signal }) =>
      body(opsApi().GET("/v1/outcomes", { params: { query: { hours: Number(hours) } }, signal })),
    refetchInterval: 60_000,
  });
  return (
    <Section
      title={t("data.outcomes")}
      lead={t("data.outcomesLead")}
      actions={
        <Select
          inline
          label={t("data.span")}
          value={hours}
          options={HOURS.map((value) => ({ value, label: t(`data.hours.${value}`) }))}
          onChange={setHours}
        />
      }
    >
      <Loaded query={outcomes} height="18rem">
        {({ series }) =>
          series.length === 0 ? (
            <EmptyState
              icon={<ChartNoAxesCombined />}
              title={t("data.noOutcomes")}
              detail={t("data.noOutcomesDetail")}
            />
          ) : (
            <Multiples series={series} />
          )
        }
      </Loaded>
    </Section>
  );
}

function Multiples({ series }: { series: Schemas["OutcomeSeries"][] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const arms = [...new Set(series.map(({ arm }) => arm))];
  const metrics = [...new Set(series.map(({ metric }) => metric))];
  return metrics.map((metric) => {
    const own = series.filter((each) => each.metric === metric);
    const range = commonRange(own);
    return (
      <div key={metric}>
        <h3 className={styles.metric}>{t(`metric.${metric}`)}</h3>
        <div className={styles.multiples}>
          {own.map((each) => (
            <Chart
              key={each.arm}
              compact
              title={armName(each.arm)}
              labelX={t("data.at")}
              height="9rem"
              kind="line"
              firstColour={arms.indexOf(each.arm)}
              range={range}
              series={[seriesOf(each, armName(each.arm))]}
              formatX={format.clock}
              formatY={(value) => format.percent(value, 1)}
            />
          ))}
        </div>
      </div>
    );
  });
}
