import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useParams } from "react-router";
import { Chart } from "../charts/chart";
import { Badge, Notice } from "../parts/badge";
import { Facts } from "../parts/facts";
import { Select } from "../parts/field";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { Arms, Comparisons } from "./arms";
import { intervalSeries, metricsOf } from "./looks";
import { useExperiment, useLooks, type Experiment, type Metric } from "./queries";
import { StopExperiment } from "./stop-experiment";
import { armNamer, STATUS_TONES, useComparisonVerdict } from "./words";

/** One experiment: whether to believe it, what it shows, and how sure that is. */
export function ExperimentPage() {
  const { t } = useTranslation("ops");
  const { experimentId = "" } = useParams();
  const experiment = useExperiment(Number(experimentId));
  const found = experiment.data;
  return (
    <OpsPage
      title={found?.name ?? t("experiments.one", { id: experimentId })}
      lead={found ? t(`experiments.about.${found.kind}`) : undefined}
      up={{ to: "/ops/experiments", label: t("experiments.title") }}
      actions={
        found ? (
          <>
            <Badge tone={STATUS_TONES[found.status]}>{t(`experiments.status.${found.status}`)}</Badge>
            {found.status === "running" ? <StopExperiment experiment={found} /> : null}
          </>
        ) : null
      }
    >
      <Loaded query={experiment} height="36rem">
        {(data) => <Details experiment={data} />}
      </Loaded>
    </OpsPage>
  );
}

function Details({ experiment }: { experiment: Experiment }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const verdict = useComparisonVerdict();
  const { shown } = experiment;
  return (
    <>
      {shown ? <SampleRatio ratio={shown.sample_ratio} /> : null}
      <Section
        title={t("experiments.facts")}
        actions={
          shown ? <Badge tone={verdict(shown.verdict).tone}>{verdict(shown.verdict).text}</Badge> : null
        }
      >
        <Facts
          facts={[
            [t("experiments.decides"), shown && t(`metric.${shown.decides}`)],
            [t("experiments.started"), format.dateTime(experiment.started_at)],
            [t("experiments.by"), experiment.started_by],
            [t("experiments.reason"), experiment.reason],
            [t("experiments.ended"), experiment.ended_at && format.dateTime(experiment.ended_at)],
            [t("experiments.because"), experiment.ended_because],
            [
              t("experiments.versions"),
              experiment.arms.map((arm) => (
                <div key={arm.name}>
                  <Link to={`/ops/models/${encodeURIComponent(arm.version ?? arm.model)}`}>
                    {arm.model} {arm.version}
                  </Link>
                </div>
              )),
            ],
          ]}
        />
      </Section>
      {shown ? (
        <>
          <Intervals experiment={experiment} decides={shown.decides} />
          <Section title={t("experiments.arms")}>
            <Arms experiment={experiment} shown={shown} />
          </Section>
          <Section title={t("experiments.comparisons")} lead={t("experiments.comparisonsLead")}>
            <Comparisons experiment={experiment} shown={shown} />
          </Section>
        </>
      ) : (
        <Notice tone="info" title={t("experiments.notShown")} />
      )}
    </>
  );
}

function SampleRatio({ ratio }: { ratio: NonNullable<Experiment["shown"]>["sample_ratio"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const p = format.figure(ratio.always_p_value, 4);
  return (
    <div role={ratio.alarm ? "alert" : undefined}>
      <Notice
        tone={ratio.alarm ? "bad" : "good"}
        title={t(ratio.alarm ? "experiments.ratioAlarm" : "experiments.ratioFine")}
      >
        <p>{t(ratio.alarm ? "experiments.ratioAlarmDetail" : "experiments.ratioFineDetail", { p })}</p>
      </Notice>
    </div>
  );
}

/** How the always-valid interval narrowed, look by look. */
function Intervals({ experiment, decides }: { experiment: Experiment; decides: Metric }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const looks = useLooks(experiment.experiment_id, experiment.status === "running");
  const [chosen, setChosen] = useState<Metric>(decides);
  const metrics = looks.data ? metricsOf(looks.data) : [];
  return (
    <Section
      title={t("experiments.overTime")}
      lead={t("experiments.overTimeLead")}
      actions={
        metrics.length > 1 ? (
          <Select
            inline
            label={t("experiments.metric")}
            value={chosen}
            options={metrics.map((value) => ({ value, label: t(`metric.${value}`) }))}
            onChange={setChosen}
          />
        ) : null
      }
    >
      <Loaded query={looks} height="20rem">
        {(found) => (
          <Chart
            compact
            title={t("experiments.differenceOf", { metric: t(`metric.${chosen}`) })}
            labelX={t("experiments.look")}
            height="18rem"
            kind="line"
            zero
            firstColour={1}
            series={intervalSeries(found, chosen, "all", armNamer(experiment.arms))}
            formatX={format.clock}
            formatY={(value) => format.percent(value, 1)}
          />
        )}
      </Loaded>
    </Section>
  );
}
