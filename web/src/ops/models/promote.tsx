import { ArrowUpFromLine } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Check, Field } from "../parts/field";
import { Refusal } from "../parts/refusal";
import type { ModelVersion } from "../types";
import { Change, GateSays } from "./change";
import styles from "./promote.module.css";
import { Judging } from "./judging";
import { holding, usePromote, versionOf } from "./queries";

interface Props {
  model: ModelVersion;
  /** All versions, to say which one is replaced. */
  models: readonly ModelVersion[] | undefined;
  small?: boolean;
}

/** Puts a version before the gate, after showing what would change; nothing for the champion. */
export function Promote({ model, models, small = false }: Props) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  const name = `${model.model} ${model.version ?? ""}`;
  return (
    <>
      {model.slots.includes("champion") ? null : (
        <Button
          variant={small ? "secondary" : "primary"}
          size={small ? "s" : "m"}
          aria-label={small ? t("models.promoteName", { name }) : undefined}
          onClick={() => setOpen(true)}
        >
          <ArrowUpFromLine size={16} aria-hidden="true" />
          {t("models.promote")}
        </Button>
      )}
      {open ? <PromoteDialog model={model} models={models} onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function PromoteDialog({ model, models, onClose }: Omit<Props, "small"> & { onClose: () => void }) {
  const { t } = useTranslation("ops");
  const [force, setForce] = useState(false);
  const [approval, setApproval] = useState(false);
  const [reason, setReason] = useState("");
  const [tried, setTried] = useState(false);
  const promote = usePromote();
  const runId = promote.data;
  const missing = force && reason.trim() === "";
  const submit = () => {
    setTried(true);
    if (missing) return;
    promote.mutate({ version: versionOf(model), force, require_approval: approval && !force, reason });
  };

  return (
    <Dialog
      open
      onClose={onClose}
      title={t("models.promoteTitle")}
      width="40rem"
      footer={
        runId === undefined ? (
          <>
            <Button onClick={onClose}>{t("cancel")}</Button>
            <Button variant={force ? "danger" : "primary"} busy={promote.isPending} onClick={submit}>
              {t(force ? "models.forceConfirm" : "models.promoteConfirm")}
            </Button>
          </>
        ) : (
          <Button onClick={onClose}>{t("close")}</Button>
        )
      }
    >
      <div className={styles.body}>
        <Change slot={t("models.slot.champion")} from={holding(models, "champion")} to={model} />
        {runId === undefined ? (
          <>
            <GateSays model={model} />
            <Check
              label={t("models.approval")}
              hint={t("models.approvalHint")}
              checked={approval && !force}
              disabled={force}
              onChange={setApproval}
            />
            <Check
              label={t("models.force")}
              hint={t("models.forceHint")}
              checked={force}
              onChange={setForce}
            />
            <Field
              label={t(force ? "models.reasonNeeded" : "models.reason")}
              hint={t("models.reasonHint")}
              error={tried && missing ? t("models.reasonMissing") : null}
            >
              {(control) => (
                <textarea
                  {...control}
                  rows={2}
                  required={force}
                  value={reason}
                  onChange={(event) => setReason(event.target.value)}
                />
              )}
            </Field>
            <Refusal error={promote.error} />
          </>
        ) : (
          <Judging runId={runId} />
        )}
      </div>
    </Dialog>
  );
}
