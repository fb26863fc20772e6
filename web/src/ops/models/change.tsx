import { ArrowDown, ArrowRight } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Badge } from "../parts/badge";
import { shortVersion, useOpsFormat } from "../parts/format";
import type { ModelVersion } from "../types";
import styles from "./change.module.css";
import { useVerdict, verdictTone } from "./words";

/** What holds a slot now, and what would hold it afterwards. */
export function Change({
  slot,
  from,
  to,
}: {
  slot: string;
  from: ModelVersion | undefined;
  to: ModelVersion | undefined;
}) {
  const { t } = useTranslation("ops");
  return (
    <div className={styles.change}>
      <Side label={t("models.from", { slot })} model={from} />
      <span className={styles.arrow} aria-hidden="true">
        <ArrowRight className={styles.across} />
        <ArrowDown className={styles.down} />
      </span>
      <Side label={t("models.to", { slot })} model={to} emphasised />
    </div>
  );
}

function Side({
  label,
  model,
  emphasised = false,
}: {
  label: string;
  model: ModelVersion | undefined;
  emphasised?: boolean;
}) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  return (
    <div className={styles.side} data-emphasised={emphasised}>
      <p className={styles.label}>{label}</p>
      {model ? (
        <>
          <p className={styles.model}>
            {model.model} <code>{shortVersion(model.version)}</code>
          </p>
          <p className={styles.facts}>
            {t("models.trainedAgo", { ago: format.ago(model.age_seconds) })}
            <br />
            NDCG@10 {format.figure(model.ndcg_at_10)}
          </p>
        </>
      ) : (
        <p className={styles.facts}>{t("models.unknownBefore")}</p>
      )}
    </div>
  );
}

/** What the gate said the last time it was asked. */
export function GateSays({ model }: { model: ModelVersion }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const verdict = useVerdict();
  return (
    <div className={styles.gate}>
      <p>
        <Badge tone={verdictTone(model.verdict)}>{verdict(model.verdict)}</Badge>
        {model.judged_at ? (
          <span className={styles.facts}>
            {t("models.judgedAt", { at: format.dateTime(model.judged_at) })}
          </span>
        ) : null}
      </p>
      {model.reasons.length > 0 ? (
        <ul lang="en">
          {model.reasons.map((reason) => (
            <li key={reason}>{reason}</li>
          ))}
        </ul>
      ) : (
        <p className={styles.facts}>{t("models.notJudged")}</p>
      )}
      <p className={styles.facts}>{t("models.judgesAnew")}</p>
    </div>
  );
}
