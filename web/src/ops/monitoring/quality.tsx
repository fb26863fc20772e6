import { useTranslation } from "react-i18next";
import { useLang } from "../../i18n";
import { Chart } from "../charts/chart";
import { useOpsFormat } from "../parts/format";
import { Section } from "../parts/page";
import styles from "./monitoring.module.css";
import type { Point } from "./queries";
import { MEASURES, qualitySeries, type Measure } from "./trends";

/** The figures of quality, each over time. */
export function Quality({ history }: { history: readonly Point[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const lang = useLang();
  const at = new Intl.DateTimeFormat(lang, { month: "numeric", day: "numeric", hour: "2-digit" });
  return (
    <Section title={t("monitoring.quality")} lead={t("monitoring.qualityLead")}>
      <div className={styles.multiples}>
        {MEASURES.map((measure) => {
          const name = t(`monitoring.measure.${measure}`);
          const series = qualitySeries(history, measure, name);
          const newest = series.length === 1 ? series[0]?.points.at(-1)?.y : undefined;
          return (
            <Chart
              key={measure}
              compact
              title={name}
              {...(typeof newest === "number"
                ? { summary: t("monitoring.now", { value: shown(measure, newest) }) }
                : {})}
              labelX={t("monitoring.at")}
              height="9rem"
              kind="line"
              series={series}
              formatX={(x) => at.format(x)}
              formatY={(value) => shown(measure, value)}
            />
          );
        })}
      </div>
    </Section>
  );

  function shown(measure: Measure, value: number): string {
    if (measure === "answers") return format.number(value, { maximumFractionDigits: 0 });
    if (measure === "gini" || measure === "novelty_bits") return format.figure(value, 2);
    return format.percent(value, 1);
  }
}
