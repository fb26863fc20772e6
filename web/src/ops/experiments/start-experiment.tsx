import { FlaskConical } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { Button } from "../../components/button";
import { Slider } from "../../components/slider";
import { useModels, versionOf } from "../models/queries";
import { Confirm } from "../parts/confirm";
import { Field, Select } from "../parts/field";
import { shortVersion, useOpsFormat } from "../parts/format";
import type { Schemas } from "../types";
import { useStartExperiment } from "./queries";

const KINDS = ["canary", "ab"] as const;
const SLOTS = ["champion", "challenger"] as const;

/** A canary, or a comparison of two versions. */
export function StartExperiment({ disabled }: { disabled: boolean }) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button variant="primary" disabled={disabled} onClick={() => setOpen(true)}>
        <FlaskConical size={16} aria-hidden="true" />
        {t("experiments.start")}
      </Button>
      {open ? <StartDialog onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function StartDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const navigate = useNavigate();
  const models = useModels();
  const start = useStartExperiment();
  const [kind, setKind] = useState<(typeof KINDS)[number]>("canary");
  const [name, setName] = useState("");
  const [first, setFirst] = useState("champion");
  const [second, setSecond] = useState("challenger");
  const [share, setShare] = useState(0.05);
  const [reason, setReason] = useState("");
  const [tried, setTried] = useState(false);
  const isCanary = kind === "canary";
  const nameless = !isCanary && name.trim() === "";
  const options = [
    ...SLOTS.map((slot) => ({ value: slot, label: t(`models.slot.${slot}`) })),
    ...(models.data ?? [])
      .filter((model) => model.version !== null)
      .map((model) => ({
        value: versionOf(model),
        label: `${model.model} ${shortVersion(model.version)} · ${format.ago(model.age_seconds)}`,
      })),
  ];
  const submit = () => {
    setTried(true);
    if (nameless) return;
    start.mutate(wanted(), {
      onSuccess: ({ experiment_id }) => void navigate(`/ops/experiments/${experiment_id}`),
    });
  };

  return (
    <Confirm
      open
      onClose={onClose}
      title={t("experiments.startTitle")}
      confirm={t("experiments.startConfirm")}
      busy={start.isPending}
      error={start.error}
      onConfirm={submit}
    >
      <Select
        label={t("experiments.kindOne")}
        value={kind}
        options={KINDS.map((value) => ({ value, label: t(`experiments.kind.${value}`) }))}
        onChange={(value) => {
          setKind(value);
          setShare(value === "canary" ? 0.05 : 0.5);
        }}
        hint={t(`experiments.about.${kind}`)}
      />
      {isCanary ? null : (
        <>
          <Field label={t("experiments.name")} error={tried && nameless ? t("experiments.nameless") : null}>
            {(control) => (
              <input {...control} required value={name} onChange={(event) => setName(event.target.value)} />
            )}
          </Field>
          <Select label={t("experiments.baseline")} value={first} options={options} onChange={setFirst} />
        </>
      )}
      <Select
        label={t(isCanary ? "experiments.canaryVersion" : "experiments.against")}
        value={second}
        options={options}
        onChange={setSecond}
      />
      <Slider
        label={t("experiments.share")}
        value={share}
        min={0.01}
        max={isCanary ? 0.5 : 0.99}
        step={0.01}
        onChange={setShare}
        format={(value) => format.percent(value)}
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
  );

  function wanted(): Schemas["ExperimentRequest"] {
    const shared = { kind, reason: reason.trim() };
    if (isCanary) return { ...shared, arms: [], version: second, share };
    const rest = Math.round(100 * (1 - share)) / 100;
    return {
      ...shared,
      name: name.trim(),
      arms: [
        { version: first, share: rest },
        { version: second, share },
      ],
      // Of a canary only; the API's own defaults.
      version: "challenger",
      share: 0.05,
    };
  }
}
