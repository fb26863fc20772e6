import { Wand } from "lucide-react";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useItem } from "../../client/queries";
import { Button } from "../../components/button";
import { Field, Input } from "../../components/field";
import { ErrorState } from "../../components/states";
import { useFormat } from "../../lib/format";
import { Amount } from "./amount";
import { ContentSelect } from "./content-select";
import { faultsOf, viewingOf, type Draft, type Faults, type Field as Name, type Viewing } from "./draft";
import styles from "./predictor.module.css";

/** As the draft; a popularity that was not typed is the film's own. */
type Typed = Omit<Draft, "popularity"> & { popularity: string | null };

interface Props {
  busy: boolean;
  error: Error | null;
  onAsk: (viewing: Viewing) => void;
}

const START: Typed = { contentId: null, minutes: "90", rating: "8", popularity: null };
const SLIDER_MINUTES = 240;

/** The reference's form: one viewing, described. */
export function PredictorForm({ busy, error, onAsk }: Props) {
  const { t } = useTranslation("predictor");
  const { minutes, number } = useFormat();
  const form = useRef<HTMLFormElement>(null);
  const [typed, setTyped] = useState(START);
  const film = useItem(typed.contentId ?? 0, typed.contentId !== null).data;
  const draft: Draft = { ...typed, popularity: typed.popularity ?? shortened(film?.popularity) };
  const [wrong, setWrong] = useState<Name[]>([]);
  // What the API refused is marked until that field is changed.
  const [mended, setMended] = useState<{ error: Error | null; fields: Name[] }>({ error, fields: [] });
  if (mended.error !== error) setMended({ error, fields: [] });
  const refused = faultsOf(error);
  const faults: Faults = {};
  for (const name of Object.keys(refused) as Name[])
    if (!mended.fields.includes(name)) faults[name] = refused[name];
  for (const name of wrong) faults[name] = { message: t(`wrong.${name}`) };

  const change = (part: Partial<Typed>) => {
    const names = Object.keys(part) as Name[];
    setTyped((old) => ({ ...old, ...part }));
    setWrong((old) => old.filter((name) => !names.includes(name)));
    setMended((old) => ({ ...old, fields: [...old.fields, ...names] }));
  };
  const focusFault = () =>
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid]")?.focus());

  return (
    <form
      ref={form}
      className={styles.form}
      noValidate
      aria-label={t("form")}
      onSubmit={(event) => {
        event.preventDefault();
        const asked = viewingOf(draft);
        if ("wrong" in asked) {
          setWrong(asked.wrong);
          focusFault();
        } else onAsk(asked.viewing);
      }}
    >
      <ContentSelect
        chosen={draft.contentId}
        fault={faults.contentId}
        onChoose={(contentId) => change({ contentId, popularity: null })}
      />
      <Amount
        label={t("watch")}
        exact={t("watchExact")}
        text={draft.minutes}
        onChange={(text) => change({ minutes: text })}
        max={SLIDER_MINUTES}
        step={5}
        format={(value) => minutes(Math.round(value))}
        fault={faults.minutes}
      >
        {film?.runtime_minutes ? (
          <Button size="s" onClick={() => change({ minutes: String(film.runtime_minutes) })}>
            {t("inFull", { time: minutes(film.runtime_minutes) })}
          </Button>
        ) : null}
      </Amount>
      <Amount
        label={t("rating")}
        exact={t("ratingExact")}
        text={draft.rating}
        onChange={(text) => change({ rating: text })}
        max={10}
        step={0.5}
        format={(value) => t("ratingValue", { value: number(value, { maximumFractionDigits: 1 }) })}
        fault={faults.rating}
      />
      <Field label={t("popularity")} hint={t("popularityHint")} fault={faults.popularity}>
        {(wiring) => (
          <Input
            {...wiring}
            inputMode="decimal"
            autoComplete="off"
            required
            value={draft.popularity}
            onChange={(event) => change({ popularity: event.target.value })}
          />
        )}
      </Field>
      {error !== null && Object.keys(refused).length === 0 ? (
        <ErrorState error={error} title={t("failed")} />
      ) : null}
      <Button type="submit" variant="primary" busy={busy}>
        <Wand size={18} aria-hidden="true" />
        {t("ask")}
      </Button>
    </form>
  );
}

/** One decimal place is plenty. */
function shortened(value: number | null | undefined): string {
  return typeof value === "number" ? String(Math.round(value * 10) / 10) : "";
}
