import { useTranslation } from "react-i18next";
import { useParams } from "react-router";
import { ButtonLink } from "../../components/button";
import { Chart } from "../charts/chart";
import { Badge } from "../parts/badge";
import { Facts, Values } from "../parts/facts";
import { shortVersion, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Columns, OpsPage, Section } from "../parts/page";
import { Table } from "../parts/table";
import type { ModelDetails } from "../types";
import { Approve } from "./approve";
import { chartsOf } from "./curves";
import { GateReport } from "./gate-report";
import { Promote } from "./promote";
import { useModel, useModels } from "./queries";

/** One version: what it is, what the gate found, how it learned, where it served. */
export function ModelPage() {
  const { t } = useTranslation("ops");
  const { version = "" } = useParams();
  const model = useModel(version);
  const models = useModels();
  const found = model.data;
  return (
    <OpsPage
      title={found ? `${found.model} ${shortVersion(found.version)}` : shortVersion(version)}
      lead={<code>{version}</code>}
      up={{ to: "/ops/models", label: t("models.title") }}
      actions={
        found ? (
          <>
            {found.slots.map((slot) => (
              <Badge key={slot} tone={slot === "challenger" ? "plain" : "good"}>
                {slot === "champion" || slot === "predictor" || slot === "challenger"
                  ? t(`models.slot.${slot}`)
                  : slot}
              </Badge>
            ))}
            <ButtonLink to={`/ops/models/compare?a=${encodeURIComponent(version)}`}>
              {t("models.compareWith")}
            </ButtonLink>
            {found.verdict === "waiting" ? <Approve model={found} models={models.data} /> : null}
            <Promote model={found} models={models.data} />
          </>
        ) : null
      }
    >
      <Loaded query={model} height="40rem">
        {(details) => <Details model={details} />}
      </Loaded>
    </OpsPage>
  );
}

function Details({ model }: { model: ModelDetails }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  return (
    <>
      <Columns>
        <Section title={t("models.facts")}>
          <Facts
            facts={[
              [t("models.trained"), format.ago(model.age_seconds)],
              [t("models.size"), format.bytes(model.size_bytes)],
              [t("models.code"), model.code_version],
              [t("models.snapshot"), model.snapshot ? <code key="s">{model.snapshot}</code> : null],
              [t("models.digest"), <code key="d">{model.digest}</code>],
            ]}
          />
        </Section>
        <Section title={t("models.metrics")} lead={t("models.metricsLead")}>
          {Object.keys(model.metrics).length > 0 ? (
            <Facts
              facts={Object.entries(model.metrics).map(([name, value]) => [name, format.figure(value)])}
            />
          ) : (
            <p>{t("models.noMetrics")}</p>
          )}
        </Section>
        <Section title={t("models.parameters")}>
          {Object.keys(model.parameters).length > 0 ? (
            <Values values={model.parameters} />
          ) : (
            <p>{t("none")}</p>
          )}
        </Section>
      </Columns>
      {model.report ? (
        <GateReport raw={model.report} />
      ) : (
        <Section title={t("models.report")}>
          <p>{t("models.notJudged")}</p>
        </Section>
      )}
      <Curves model={model} />
      <Section title={t("models.deployments")}>
        {model.deployments.length === 0 ? (
          <p>{t("models.neverDeployed")}</p>
        ) : (
          <Table
            caption={t("models.deployments")}
            rows={model.deployments}
            rowKey={(one) => `${one.slot} ${one.created_at}`}
            columns={[
              { key: "at", label: t("models.when"), cell: (one) => format.dateTime(one.created_at) },
              { key: "slot", label: t("models.slotOne"), cell: (one) => one.slot },
              { key: "by", label: t("models.by"), cell: (one) => one.deployed_by },
              {
                key: "reason",
                label: t("models.because"),
                cell: (one) => <span lang="en">{one.reason}</span>,
              },
            ]}
          />
        )}
      </Section>
    </>
  );
}

/** Loss with loss, accuracy with accuracy: each kind on its own scale. */
function Curves({ model }: { model: ModelDetails }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const charts = chartsOf(model.curves ?? []);
  return (
    <Section title={t("models.curves")} lead={t("models.curvesLead")}>
      {charts.length === 0 ? <p>{t("models.noCurves")}</p> : null}
      <Columns>
        {charts.map(({ name, series }) => (
          <Chart
            key={name}
            compact
            title={name}
            labelX={t("models.step")}
            kind="line"
            series={series}
            formatX={(step) => format.number(step)}
            formatY={(value) => format.figure(value, 3)}
          />
        ))}
      </Columns>
    </Section>
  );
}
