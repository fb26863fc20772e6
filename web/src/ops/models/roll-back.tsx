import { Undo2 } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { toast } from "../../components/toast-store";
import { Confirm } from "../parts/confirm";
import { Field, Select } from "../parts/field";
import { Change } from "./change";
import { holding, useModel, useModels, useRollBack, versionOf } from "./queries";

const SLOTS = ["champion", "predictor"] as const;

/** Gives a slot back what it held before. */
export function RollBack() {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button variant="danger" onClick={() => setOpen(true)}>
        <Undo2 size={16} aria-hidden="true" />
        {t("models.rollBack")}
      </Button>
      {open ? <RollBackDialog onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function RollBackDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation("ops");
  const [slot, setSlot] = useState<(typeof SLOTS)[number]>("champion");
  const [reason, setReason] = useState("");
  const models = useModels();
  const rollBack = useRollBack();
  const now = holding(models.data, slot);
  const details = useModel(now ? versionOf(now) : "");
  const since = details.data?.deployments.find((deployment) => deployment.slot === slot)?.created_at;
  return (
    <Confirm
      open
      onClose={onClose}
      title={t("models.rollBackTitle")}
      confirm={t("models.rollBackConfirm")}
      danger
      busy={rollBack.isPending}
      error={rollBack.error}
      onConfirm={() =>
        rollBack.mutate(
          { slot, reason: reason.trim() || "rolled back" },
          {
            onSuccess: ({ model, version }) => {
              toast({
                title: t("models.rolledBack", {
                  slot: t(`models.slot.${slot}`),
                  model,
                  version: version ?? "",
                }),
              });
              onClose();
            },
          },
        )
      }
    >
      <Select
        label={t("models.whichSlot")}
        value={slot}
        options={SLOTS.map((value) => ({ value, label: t(`models.slot.${value}`) }))}
        onChange={setSlot}
      />
      <Change slot={t(`models.slot.${slot}`)} from={now} to={undefined} />
      <p>{t("models.rollBackDetail")}</p>
      {since ? <Since at={since} /> : null}
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
  );
}

function Since({ at }: { at: string }) {
  const { t, i18n } = useTranslation("ops");
  const shown = new Intl.DateTimeFormat(i18n.language, { dateStyle: "medium", timeStyle: "short" });
  return <p>{t("models.holdsSince", { at: shown.format(new Date(at)) })}</p>;
}
