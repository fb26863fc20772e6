import { Check, X } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Interval, scaleOf } from "../charts/interval";
import { Badge, Notice } from "../parts/badge";
import { Facts, Values } from "../parts/facts";
import { useOpsFormat } from "../parts/format";
import { Section } from "../parts/page";
import { Table } from "../parts/table";
import styles from "./gate-report.module.css";
import { reportOf, type Comparison, type GateReport as Report } from "./report";
import { useVerdict, verdictTone } from "./words";

/** The gate's report, as people read it: the verdict and why, then what it was found on. */
export function GateReport({ raw }: { raw: Record<string, unknown> }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const verdict = useVerdict();
  const report = reportOf(raw);
  return (
    <Section
      title={t("models.report")}
      lead={report.against ? t("models.against", { champion: report.against }) : undefined}
      actions={<Badge tone={verdictTone(report.verdict)}>{verdict(report.verdict)}</Badge>}
    >
      <Notice tone={verdictTone(report.verdict)} title={t("models.why")}>
        <ul lang="en" className={styles.reasons}>
          {report.reasons.map((reason) => (
            <li key={reason}>{reason}</li>
          ))}
        </ul>
        {report.forcedReason ? <p>{t("models.forcedBecause", { reason: report.forcedReason })}</p> : null}
      </Notice>
      {report.comparisons.length > 0 ? <Comparisons report={report} /> : null}
      {report.notes.length > 0 ? (
        <ul lang="en" className={styles.notes}>
          {report.notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      ) : null}
      <div className={styles.below}>
        <div>
          <h3>{t("models.checks")}</h3>
          <ul role="list" className={styles.checks}>
            {report.checks.map((check) => (
              <li key={check.name} data-passed={check.passed}>
                {check.passed ? <Check size={18} aria-hidden="true" /> : <X size={18} aria-hidden="true" />}
                <div lang="en">
                  <strong>{check.name}</strong>
                  <span className="visually-hidden">
                    {" "}
                    ({check.passed ? t("models.held") : t("models.broken")})
                  </span>
                  <p>{check.found}</p>
                </div>
              </li>
            ))}
          </ul>
        </div>
        <div>
          <h3>{t("models.measured")}</h3>
          <Facts
            facts={[
              [t("models.latency"), report.latencyMs === null ? null : format.milliseconds(report.latencyMs)],
              [
                t("models.bundle"),
                report.bundleMib === null ? null : `${format.figure(report.bundleMib, 1)} MiB`,
              ],
              [t("models.windows"), report.windows.join(", ")],
            ]}
          />
          <h3>{t("models.limits")}</h3>
          <Values values={report.limits} />
        </div>
      </div>
    </Section>
  );
}

function Comparisons({ report }: { report: Report }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  // One scale per metric: coverage is a share of films, and would make everything else a dot.
  const scales = new Map(
    report.comparisons.map(({ metric }) => [
      metric,
      scaleOf(
        report.comparisons
          .filter((one) => one.metric === metric)
          .map(({ difference: { mean, low, high } }) => ({ value: mean, low, high })),
      ),
    ]),
  );
  return (
    <Table
      caption={t("models.comparisons")}
      rows={report.comparisons}
      rowKey={(one) => `${one.part} ${one.metric}`}
      columns={[
        {
          key: "part",
          label: t("models.part"),
          cell: (one) => (
            <>
              {partName(one.part)} <span className={styles.metric}>{metricName(one.metric)}</span>
            </>
          ),
        },
        {
          key: "its",
          label: t("models.slot.champion"),
          numeric: true,
          cell: (one) => format.figure(one.champion.mean),
        },
        {
          key: "own",
          label: t("models.thisOne"),
          numeric: true,
          cell: (one) => format.figure(one.challenger.mean),
        },
        {
          key: "drawn",
          label: t("models.difference"),
          cell: ({ difference: { mean, low, high }, ...one }) => (
            <Interval
              range={{ value: mean, low, high }}
              scale={scales.get(one.metric) ?? [-1, 1]}
              tone={toneOf(one)}
            />
          ),
        },
        {
          key: "figures",
          label: t("models.interval"),
          numeric: true,
          cell: ({ difference: { mean, low, high } }) =>
            mean === null
              ? t("none")
              : low === null || high === null
                ? format.signed(mean)
                : `${format.signed(mean)} (${format.signed(low)} … ${format.signed(high)})`,
        },
        {
          key: "n",
          label: t("models.queries"),
          numeric: true,
          cell: (one) => (
            <>
              {format.number(one.difference.n)}
              {one.judged ? null : <span className={styles.metric}> {t("models.tooFew")}</span>}
            </>
          ),
        },
      ]}
    />
  );

  function partName(part: string): string {
    switch (part) {
      case "all":
      case "last_1":
      case "last_3":
      case "history_under_20":
      case "history_20_to_99":
      case "history_100_up":
      case "tail_items":
      case "young_items":
        return t(`models.parts.${part}`);
      default:
        return part;
    }
  }
}

function metricName(metric: string): string {
  return metric.replace(/^ndcg/, "NDCG").replace("_at_", "@");
}

function toneOf({ better, fell, judged }: Pick<Comparison, "better" | "fell" | "judged">) {
  if (fell) return "bad";
  return better && judged ? "good" : "plain";
}
