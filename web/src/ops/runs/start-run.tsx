import { Play } from "lucide-react";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { Button } from "../../components/button";
import { Confirm } from "../parts/confirm";
import { Field, Select } from "../parts/field";
import { STARTABLE, useStartRun, type Startable } from "./queries";
import styles from "./start-run.module.css";
import { usePipelineName } from "./words";

/** The built-in models that are trained; those of plug-ins are typed. */
const MODELS = [
  "mlp",
  "ease",
  "ials",
  "item_knn",
  "markov",
  "content",
  "popularity",
  "linear_stack",
  "mlp_next",
  "sasrec",
  "two_stage",
];
const MOST_FILMS = 1_000;

/** Starts a pipeline and goes to its run. */
export function StartRun() {
  const { t } = useTranslation("ops");
  const navigate = useNavigate();
  const name = usePipelineName();
  const [open, setOpen] = useState(false);
  const [pipeline, setPipeline] = useState<Startable>("pipeline");
  const [model, setModel] = useState("ease");
  const [k, setK] = useState("20");
  const listId = useId();
  const start = useStartRun();
  const takesModel = pipeline === "train" || pipeline === "pipeline";
  const films = Number(k);
  const wrongModel = takesModel && model.trim() === "";
  const wrongK = pipeline === "pipeline" && !(Number.isInteger(films) && films >= 1 && films <= MOST_FILMS);

  return (
    <>
      <Button variant="primary" onClick={() => setOpen(true)}>
        <Play size={16} aria-hidden="true" />
        {t("runs.start")}
      </Button>
      <Confirm
        open={open}
        onClose={() => {
          setOpen(false);
          start.reset();
        }}
        title={t("runs.startTitle")}
        confirm={t("runs.startConfirm")}
        busy={start.isPending}
        error={start.error}
        disabled={wrongModel || wrongK}
        onConfirm={() =>
          start.mutate(
            { pipeline, model: model.trim(), k: films },
            { onSuccess: (runId) => void navigate(`/ops/runs/${runId}`) },
          )
        }
      >
        <Select
          label={t("runs.which")}
          value={pipeline}
          options={STARTABLE.map((value) => ({ value, label: name(value) }))}
          onChange={setPipeline}
          hint={t(`runs.about.${pipeline}`)}
        />
        {takesModel ? (
          <Field
            label={t("runs.model")}
            hint={t("runs.modelHint")}
            error={wrongModel ? t("runs.modelMissing") : null}
          >
            {(control) => (
              <input
                {...control}
                list={listId}
                value={model}
                autoComplete="off"
                spellCheck={false}
                onChange={(event) => setModel(event.target.value)}
              />
            )}
          </Field>
        ) : null}
        <datalist id={listId}>
          {MODELS.map((known) => (
            <option key={known} value={known} />
          ))}
        </datalist>
        {pipeline === "pipeline" ? (
          <div className={styles.short}>
            <Field label={t("runs.k")} error={wrongK ? t("runs.kWrong", { most: MOST_FILMS }) : null}>
              {(control) => (
                <input
                  {...control}
                  inputMode="numeric"
                  value={k}
                  onChange={(event) => setK(event.target.value)}
                />
              )}
            </Field>
          </div>
        ) : null}
      </Confirm>
    </>
  );
}
