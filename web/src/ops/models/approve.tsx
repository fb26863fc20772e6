import { Check } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { toast } from "../../components/toast-store";
import { Confirm } from "../parts/confirm";
import { Field } from "../parts/field";
import type { ModelVersion } from "../types";
import { Change, GateSays } from "./change";
import { holding, useApprove, versionOf } from "./queries";

/** Lets a version serve that has passed the gate and waits for an operator. */
export function Approve({
  model,
  models,
}: {
  model: ModelVersion;
  models: readonly ModelVersion[] | undefined;
}) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const approve = useApprove();
  return (
    <>
      <Button variant="primary" onClick={() => setOpen(true)}>
        <Check size={16} aria-hidden="true" />
        {t("models.approve")}
      </Button>
      <Confirm
        open={open}
        onClose={() => {
          setOpen(false);
          approve.reset();
        }}
        title={t("models.approveTitle")}
        confirm={t("models.approve")}
        busy={approve.isPending}
        error={approve.error}
        width="40rem"
        onConfirm={() =>
          approve.mutate(
            { version: versionOf(model), reason: reason.trim() || "approved" },
            {
              onSuccess: () => {
                toast({ title: t("models.approved", { model: model.model }) });
                setOpen(false);
              },
            },
          )
        }
      >
        <Change slot={t("models.slot.champion")} from={holding(models, "champion")} to={model} />
        <GateSays model={model} />
        <Field label={t("models.reason")} hint={t("models.reasonHint")}>
          {(control) => (
            <textarea
              {...control}
              rows={2}
              value={reason}
              onChange={(event) => setReason(event.target.value)}
            />
          )}
        </Field>
      </Confirm>
    </>
  );
}
