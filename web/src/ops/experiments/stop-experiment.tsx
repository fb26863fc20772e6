import { CircleStop } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { toast } from "../../components/toast-store";
import { Confirm } from "../parts/confirm";
import { Field, Select } from "../parts/field";
import { useStopExperiment, type Experiment } from "./queries";
import { armNamer } from "./words";

/** Ends an experiment; everybody has the champion then, or the arm that is promoted. */
export function StopExperiment({ experiment }: { experiment: Experiment }) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  const [promote, setPromote] = useState("");
  const [reason, setReason] = useState("");
  const stop = useStopExperiment(experiment.experiment_id);
  const nameOf = armNamer(experiment.arms);
  return (
    <>
      <Button variant="danger" onClick={() => setOpen(true)}>
        <CircleStop size={16} aria-hidden="true" />
        {t("experiments.stop")}
      </Button>
      <Confirm
        open={open}
        onClose={() => {
          setOpen(false);
          stop.reset();
        }}
        title={t("experiments.stopTitle", { name: experiment.name })}
        confirm={t(promote === "" ? "experiments.stop" : "experiments.stopAndPromote")}
        danger
        busy={stop.isPending}
        error={stop.error}
        onConfirm={() =>
          stop.mutate(
            { reason: reason.trim(), ...(promote === "" ? {} : { promote }) },
            {
              onSuccess: () => {
                setOpen(false);
                toast({ title: t("experiments.stopped", { name: experiment.name }) });
              },
            },
          )
        }
      >
        <p>{t("experiments.stopDetail")}</p>
        <Select
          label={t("experiments.afterwards")}
          value={promote}
          options={[
            { value: "", label: t("experiments.keepChampion") },
            ...experiment.arms.slice(1).map((arm) => ({
              value: arm.name,
              label: t("experiments.promoteArm", { arm: nameOf(arm.name) }),
            })),
          ]}
          onChange={setPromote}
        />
        <Field label={t("experiments.reason")} hint={t("experiments.reasonHint")}>
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
