import { CircleStop } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "react-router";
import { Button } from "../../components/button";
import { toast } from "../../components/toast-store";
import { Badge, Notice } from "../parts/badge";
import { Confirm } from "../parts/confirm";
import { Facts, Values } from "../parts/facts";
import { secondsBetween, useNow, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Columns, OpsPage, Section } from "../parts/page";
import type { Run } from "../types";
import { LogViewer } from "./log-viewer";
import { Progress } from "./progress";
import { unfinished, useCancelRun, useRun } from "./queries";
import { StepsPicture } from "./steps-picture";
import { RUN_TONES, usePipelineName } from "./words";

/** One run, followed while it goes on. */
export function RunPage() {
  const { t } = useTranslation("ops");
  const { runId = "" } = useParams();
  const name = usePipelineName();
  const run = useRun(runId);
  return (
    <OpsPage
      title={run.data ? name(run.data.pipeline) : t("runs.one")}
      lead={<code>{runId}</code>}
      up={{ to: "/ops/runs", label: t("runs.title") }}
      actions={
        run.data ? (
          <>
            <Badge tone={RUN_TONES[run.data.status]}>{t(`runs.status.${run.data.status}`)}</Badge>
            {unfinished(run.data.status) ? <CancelRun run={run.data} /> : null}
          </>
        ) : null
      }
    >
      <Loaded query={run} height="36rem">
        {(found) => <Details run={found} />}
      </Loaded>
    </OpsPage>
  );
}

function Details({ run }: { run: Run }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const now = useNow(run.finished_at === null ? 1_000 : null);
  const { reasons } = run.counts;
  // The gate's report is drawn on the page of its model.
  const counts = Object.fromEntries(
    Object.entries(run.counts).filter(([name]) => name !== "reasons" && name !== "report"),
  );
  return (
    <>
      {run.error ? (
        <Notice tone={run.status === "cancelled" ? "warn" : "bad"} title={t("runs.why")}>
          <p lang="en">{run.error}</p>
        </Notice>
      ) : null}
      <Section title={t("runs.steps")}>
        <StepsPicture run={run} />
        <Progress run={run} />
      </Section>
      {Array.isArray(reasons) && reasons.length > 0 ? (
        <Section title={t("runs.reasons")}>
          <ul lang="en">
            {reasons.map((reason) => (
              <li key={String(reason)}>{String(reason)}</li>
            ))}
          </ul>
        </Section>
      ) : null}
      <Columns>
        <Section title={t("runs.times")}>
          <Facts
            facts={[
              [t("runs.created"), format.dateTime(run.created_at)],
              [t("runs.started"), run.started_at && format.dateTime(run.started_at)],
              [t("runs.finished"), run.finished_at && format.dateTime(run.finished_at)],
              [
                t("runs.waited"),
                run.started_at && format.duration(secondsBetween(run.created_at, run.started_at)),
              ],
              [
                t("runs.took"),
                run.started_at && format.duration(secondsBetween(run.started_at, run.finished_at ?? now)),
              ],
              [t("runs.attempts"), run.attempts > 1 ? format.number(run.attempts) : null],
            ]}
          />
        </Section>
        <Section title={t("runs.parameters")}>
          {Object.keys(run.parameters).length > 0 ? <Values values={run.parameters} /> : <p>{t("none")}</p>}
        </Section>
        <Section title={t("runs.counts")}>
          {Object.keys(counts).length > 0 ? <Values values={counts} /> : <p>{t("runs.noCounts")}</p>}
        </Section>
      </Columns>
      <LogViewer run={run} />
    </>
  );
}

export function CancelRun({ run }: { run: Run }) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  const name = usePipelineName();
  const cancel = useCancelRun();
  return (
    <>
      <Button variant="danger" onClick={() => setOpen(true)}>
        <CircleStop size={16} aria-hidden="true" />
        {t("runs.cancel")}
      </Button>
      <Confirm
        open={open}
        onClose={() => {
          setOpen(false);
          cancel.reset();
        }}
        title={t("runs.cancelTitle", { pipeline: name(run.pipeline) })}
        confirm={t("runs.cancel")}
        danger
        busy={cancel.isPending}
        error={cancel.error}
        onConfirm={() =>
          cancel.mutate(run.run_id, {
            onSuccess: () => {
              setOpen(false);
              toast({ title: t("runs.cancelled", { pipeline: name(run.pipeline) }) });
            },
          })
        }
      >
        <p>{t("runs.cancelDetail")}</p>
        {run.status === "running" ? <Progress run={run} /> : null}
      </Confirm>
    </>
  );
}
