import { Activity } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { EmptyState } from "../../components/states";
import { Badge } from "../parts/badge";
import { Select } from "../parts/field";
import { secondsBetween, useNow, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { Table } from "../parts/table";
import type { Run } from "../types";
import { Progress } from "./progress";
import { unfinished, useRuns } from "./queries";
import { StartRun } from "./start-run";
import { StepsPicture } from "./steps-picture";
import { RUN_TONES, usePipelineName } from "./words";

const PIPELINES = [
  "",
  "pipeline",
  "prepare",
  "train",
  "promote",
  "infer",
  "backup",
  "monitor",
  "forget",
] as const;

export function Runs() {
  const { t } = useTranslation("ops");
  const [pipeline, setPipeline] = useState<(typeof PIPELINES)[number]>("");
  const name = usePipelineName();
  const runs = useRuns(pipeline);
  return (
    <OpsPage title={t("runs.title")} lead={t("runs.lead")} actions={<StartRun />}>
      <Section
        title={t("runs.newest")}
        actions={
          <Select
            inline
            label={t("runs.show")}
            value={pipeline}
            options={PIPELINES.map((value) => ({
              value,
              label: value === "" ? t("runs.every") : name(value),
            }))}
            onChange={setPipeline}
          />
        }
      >
        <Loaded query={runs} height="24rem">
          {(found) =>
            found.length === 0 ? (
              <EmptyState icon={<Activity />} title={t("runs.emptyTitle")} detail={t("runs.emptyDetail")} />
            ) : (
              <RunTable runs={found} />
            )
          }
        </Loaded>
      </Section>
    </OpsPage>
  );
}

function RunTable({ runs }: { runs: Run[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const name = usePipelineName();
  const now = useNow(runs.some((run) => unfinished(run.status)) ? 1_000 : null);
  return (
    <Table
      caption={t("runs.newest")}
      rows={runs}
      rowKey={(run) => run.run_id}
      columns={[
        {
          key: "pipeline",
          label: t("runs.which"),
          cell: (run) => <Link to={`/ops/runs/${run.run_id}`}>{name(run.pipeline)}</Link>,
        },
        {
          key: "status",
          label: t("runs.state"),
          cell: (run) => <Badge tone={RUN_TONES[run.status]}>{t(`runs.status.${run.status}`)}</Badge>,
        },
        {
          key: "steps",
          label: t("runs.steps"),
          cell: (run) =>
            run.status === "running" ? (
              <Progress run={run} />
            ) : run.steps?.length ? (
              <StepsPicture run={run} small />
            ) : null,
        },
        {
          key: "started",
          label: t("runs.started"),
          cell: (run) => format.dateTime(run.started_at ?? run.created_at),
        },
        {
          key: "took",
          label: t("runs.took"),
          numeric: true,
          cell: (run) =>
            run.started_at === null
              ? t("none")
              : format.duration(secondsBetween(run.started_at, run.finished_at ?? now)),
        },
      ]}
    />
  );
}
