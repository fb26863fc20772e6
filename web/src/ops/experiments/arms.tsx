import { useTranslation } from "react-i18next";
import { Interval, scaleOf } from "../charts/interval";
import { Badge } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Table, type Column } from "../parts/table";
import type { Schemas } from "../types";
import type { Experiment, Metric } from "./queries";
import { armNamer, useComparisonVerdict } from "./words";

interface Props {
  experiment: Experiment;
  shown: Schemas["Shown"];
}

/** What each arm did. */
export function Arms({ experiment, shown }: Props) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const nameOf = armNamer(experiment.arms);
  const metrics = [...new Set(shown.arms.flatMap((arm) => arm.metrics.map(({ metric }) => metric)))];
  return (
    <Table
      caption={t("experiments.arms")}
      rows={shown.arms}
      rowKey={(arm) => arm.name}
      columns={[
        { key: "arm", label: t("experiments.arm"), cell: (arm) => nameOf(arm.name) },
        {
          key: "share",
          label: t("experiments.share"),
          numeric: true,
          cell: (arm) => format.percent(arm.share),
        },
        {
          key: "users",
          label: t("experiments.users"),
          numeric: true,
          cell: (arm) => format.number(arm.users),
        },
        {
          key: "answers",
          label: t("experiments.answers"),
          numeric: true,
          cell: (arm) => format.number(arm.answers),
        },
        ...metrics.map((metric) => estimate(metric)),
        {
          key: "errors",
          label: t("experiments.errors"),
          numeric: true,
          cell: (arm) => format.percent(arm.error_rate, 2),
        },
        { key: "p95", label: "p95", numeric: true, cell: (arm) => format.milliseconds(arm.p95_ms) },
      ]}
    />
  );

  function estimate(metric: Metric): Column<Schemas["ArmShown"]> {
    return {
      key: metric,
      label: t(`metric.${metric}`),
      numeric: true,
      cell: (arm) => {
        const own = arm.metrics.find((each) => each.metric === metric && each.slice === "all");
        if (!own || own.value === null) return t("none");
        const value = format.percent(own.value, 1);
        if (own.low === null || own.high === null) return value;
        return (
          <>
            {value}
            <br />
            <small>
              {format.percent(own.low, 1)} … {format.percent(own.high, 1)}
            </small>
          </>
        );
      },
    };
  }
}

/** Every comparison with the first arm: drawn is the interval that holds at all looks. */
export function Comparisons({ experiment, shown }: Props) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const verdict = useComparisonVerdict();
  const nameOf = armNamer(experiment.arms);
  const rangeOf = (one: Schemas["ComparisonBody"]) => ({
    value: one.value,
    low: one.always_low,
    high: one.always_high,
  });
  const scale = scaleOf(shown.comparisons.map(rangeOf));
  const points = (value: number) =>
    format.number(value, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" });
  return (
    <Table
      caption={t("experiments.comparisons")}
      rows={shown.comparisons}
      rowKey={(one) => `${one.arm} ${one.metric} ${one.slice}`}
      columns={[
        { key: "metric", label: t("experiments.metric"), cell: (one) => t(`metric.${one.metric}`) },
        { key: "slice", label: t("experiments.slice"), cell: (one) => t(`experiments.slices.${one.slice}`) },
        { key: "arm", label: t("experiments.arm"), cell: (one) => nameOf(one.arm) },
        {
          key: "drawn",
          label: t("experiments.always"),
          cell: (one) => (
            <Interval
              range={rangeOf(one)}
              scale={scale}
              tone={one.verdict === "better" ? "good" : one.verdict === "worse" ? "bad" : "plain"}
            />
          ),
        },
        {
          key: "figures",
          label: t("experiments.difference"),
          numeric: true,
          cell: (one) => {
            if (one.value === null) return t("none");
            return one.always_low === null || one.always_high === null
              ? `${points(one.value)} (${t("experiments.fewUsers")})`
              : `${points(one.value)} (${points(one.always_low)} … ${points(one.always_high)})`;
          },
        },
        {
          key: "verdict",
          label: t("experiments.verdictOne"),
          cell: (one) => <Badge tone={verdict(one.verdict).tone}>{verdict(one.verdict).text}</Badge>,
        },
      ]}
    />
  );
}
