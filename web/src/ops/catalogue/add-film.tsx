import { Plus } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { toast } from "../../components/toast-store";
import { Confirm } from "../parts/confirm";
import { Field } from "../parts/field";
import styles from "./add-film.module.css";
import { EMPTY, filmOf, mistakesOf, type Draft } from "./new-film";
import { useAddFilm } from "./queries";

const LINES = [
  "title",
  "koreanTitle",
  "number",
  "released",
  "runtime",
  "language",
  "genres",
  "people",
  "poster",
] as const;
const TYPES: Partial<Record<keyof Draft, string>> = { released: "date" };
const NUMERIC: readonly (keyof Draft)[] = ["number", "runtime"];
const HINTED = ["number", "language", "genres", "people", "poster"] as const;

/** A film of one's own: recommended at once, by what it is about. */
export function AddFilm({ onAdded }: { onAdded: (itemId: number) => void }) {
  const { t } = useTranslation("ops");
  const [open, setOpen] = useState(false);
  const [draft, setDraft] = useState(EMPTY);
  // Mistakes are told once it was tried, and from then on as they come and go.
  const [tried, setTried] = useState(false);
  const add = useAddFilm();
  const mistakes = mistakesOf(draft);
  const shown = tried ? mistakes : {};
  const put = (name: keyof Draft, value: string) => setDraft({ ...draft, [name]: value });
  const close = () => {
    setOpen(false);
    setTried(false);
    add.reset();
  };
  const submit = () => {
    setTried(true);
    if (Object.keys(mistakes).length > 0) return;
    const film = filmOf(draft);
    add.mutate(film, {
      onSuccess: () => {
        toast({ title: t("catalogue.added", { title: film.title }) });
        setDraft(EMPTY);
        close();
        onAdded(film.item_id);
      },
    });
  };
  const errorOf = (name: keyof Draft) => {
    const mistake = shown[name];
    return mistake ? t(`catalogue.mistake.${mistake}`) : null;
  };

  return (
    <>
      <Button variant="primary" onClick={() => setOpen(true)}>
        <Plus size={16} aria-hidden="true" />
        {t("catalogue.add")}
      </Button>
      <Confirm
        open={open}
        onClose={close}
        title={t("catalogue.addTitle")}
        confirm={t("catalogue.addConfirm")}
        busy={add.isPending}
        error={add.error}
        onConfirm={submit}
        width="44rem"
      >
        <p className={styles.lead}>{t("catalogue.addLead")}</p>
        <div className={styles.form}>
          {LINES.map((name) => (
            <Field key={name} label={t(`catalogue.field.${name}`)} error={errorOf(name)} {...hintOf(name)}>
              {(control) => (
                <input
                  {...control}
                  type={TYPES[name] ?? "text"}
                  required={name === "title" || name === "number"}
                  {...(NUMERIC.includes(name) ? { inputMode: "numeric" as const } : {})}
                  {...(name === "koreanTitle" ? { lang: "ko" } : {})}
                  value={draft[name]}
                  onChange={(event) => put(name, event.target.value)}
                />
              )}
            </Field>
          ))}
          <div className={styles.wide}>
            <Field label={t("catalogue.field.overview")}>
              {(control) => (
                <textarea
                  {...control}
                  rows={4}
                  value={draft.overview}
                  onChange={(event) => put("overview", event.target.value)}
                />
              )}
            </Field>
          </div>
        </div>
      </Confirm>
    </>
  );

  function hintOf(name: (typeof LINES)[number]): { hint?: string } {
    const hinted = HINTED.find((each) => each === name);
    return hinted ? { hint: t(`catalogue.hint.${hinted}`) } : {};
  }
}
