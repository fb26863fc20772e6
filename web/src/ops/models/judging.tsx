import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { Notice } from "../parts/badge";
import { Loaded } from "../parts/loaded";
import { Progress } from "../runs/progress";
import { unfinished, useRun } from "../runs/queries";
import type { Run } from "../types";
import { deployed } from "./queries";
import { useVerdict, verdictTone } from "./words";

/** The gate at work, and then what it said. */
export function Judging({ runId }: { runId: string }) {
  const { t } = useTranslation("ops");
  const client = useQueryClient();
  const run = useRun(runId);
  const over = run.data !== undefined && !unfinished(run.data.status);
  useEffect(() => {
    if (over) void deployed(client);
  }, [over, client]);
  return (
    <div role="status">
      <Loaded query={run} height="6rem">
        {(found) => (
          <>
            {unfinished(found.status) ? (
              <>
                <Notice tone="info" title={t("models.judging")} />
                <Progress run={found} />
              </>
            ) : (
              <Outcome run={found} />
            )}
            <p>
              <Link to={`/ops/runs/${runId}`}>{t("models.seeRun")}</Link>
            </p>
          </>
        )}
      </Loaded>
    </div>
  );
}

function Outcome({ run }: { run: Run }) {
  const { t } = useTranslation("ops");
  const verdictName = useVerdict();
  if (run.status !== "succeeded") {
    return (
      <Notice tone="bad" title={t("models.judgingFailed")}>
        <p lang="en">{run.error}</p>
      </Notice>
    );
  }
  const verdict = typeof run.counts.verdict === "string" ? run.counts.verdict : null;
  const reasons = Array.isArray(run.counts.reasons) ? run.counts.reasons : [];
  return (
    <Notice tone={verdictTone(verdict)} title={verdictName(verdict)}>
      <ul lang="en">
        {reasons.map((reason) => (
          <li key={String(reason)}>{String(reason)}</li>
        ))}
      </ul>
    </Notice>
  );
}
