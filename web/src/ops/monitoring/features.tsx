import { Waves } from "lucide-react";
import { useTranslation } from "react-i18next";
import { EmptyState } from "../../components/states";
import { Badge } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Section } from "../parts/page";
import { Table } from "../parts/table";
import styles from "./monitoring.module.css";
import type { Feature, Point } from "./queries";
import { Sparkline } from "./sparkline";
import { byUrgency, effectsOf, told } from "./trends";
import { STATUS_TONES, useFeatureName } from "./words";

/** How far each feature is from what is usual, and how that came about. */
export function Features({ features, history }: { features: Feature[]; history: Point[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const nameOf = useFeatureName();
  return (
    <Section title={t("monitoring.drift")} lead={t("monitoring.driftLead")}>
      {features.length === 0 ? (
        <EmptyState
          icon={<Waves />}
          title={t("monitoring.noFeatures")}
          detail={t("monitoring.noFeaturesDetail")}
        />
      ) : (
        <Table
          caption={t("monitoring.drift")}
          rows={byUrgency(features)}
          rowKey={({ name }) => name}
          columns={[
            {
              key: "feature",
              label: t("monitoring.feature"),
              cell: (feature) => (
                <>
                  {nameOf(feature)}
                  {feature.status === "drift" || feature.status === "shifted" ? (
                    <span className={styles.detail} lang="en">
                      {told(feature.detail, (value) => format.figure(value, 2))}
                    </span>
                  ) : null}
                </>
              ),
            },
            {
              key: "status",
              label: t("monitoring.state"),
              cell: ({ status }) => (
                <Badge tone={STATUS_TONES[status]}>{t(`monitoring.status.${status}`)}</Badge>
              ),
            },
            {
              key: "psi",
              label: t("monitoring.psi"),
              numeric: true,
              cell: ({ psi }) => format.figure(psi, 3),
            },
            {
              key: "p",
              label: t("monitoring.p"),
              numeric: true,
              cell: ({ p_value: p }) => (p !== null && p < 0.0001 ? "< 0.0001" : format.figure(p, 4)),
            },
            {
              key: "effect",
              label: t("monitoring.effect"),
              numeric: true,
              cell: ({ effects }) => format.figure(effects[0], 3),
            },
            {
              key: "threshold",
              label: t("monitoring.from"),
              numeric: true,
              cell: ({ threshold }) => format.figure(threshold, 2),
            },
            {
              key: "trend",
              label: t("monitoring.trend"),
              cell: (feature) => <Trend feature={feature} history={history} />,
            },
          ]}
        />
      )}
    </Section>
  );
}

function Trend({ feature: { name, threshold }, history }: { feature: Feature; history: readonly Point[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const points = effectsOf(history, name);
  if (points.length === 0) return <span className={styles.quiet}>{t("monitoring.noTrend")}</span>;
  const label = t("monitoring.trendOf", {
    first: format.figure(points[0]?.y, 2),
    last: format.figure(points.at(-1)?.y, 2),
    most: format.figure(Math.max(...points.map(({ y }) => y)), 2),
    threshold: format.figure(threshold, 2),
  });
  return <Sparkline points={points} threshold={threshold} label={label} />;
}
