import { SlidersHorizontal } from "lucide-react";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import { useGenres } from "../../client/queries";
import { Button } from "../../components/button";
import { Slider } from "../../components/slider";
import { useLang } from "../../i18n";
import { useFormat } from "../../lib/format";
import { ANY, filtersOf, setTaste, useTaste } from "./taste";
import styles from "./tune.module.css";

const FIRST_DECADE = 1920;
const LANGUAGES = ["en", "ko", "ja", "zh", "fr", "de", "es", "it", "pt", "hi", "ru", "sv", "da", "th"];
const LONGEST = 240;
const SHORTEST = 60;

interface Tune {
  id: string;
  open: boolean;
  setOpen: (open: boolean) => void;
}

/** Whether the controls of "For you" are shown. */
export function useTune(): Tune {
  const id = useId();
  const [open, setOpen] = useState(false);
  return { id, open, setOpen };
}

export function TuneToggle({ id, open, setOpen }: Tune) {
  const { t } = useTranslation("home");
  const taste = useTaste();
  const count = filtersOf(taste) + (taste.diversity > 0 ? 1 : 0);
  return (
    <Button
      size="s"
      className={styles.toggle}
      aria-expanded={open}
      aria-controls={open ? id : undefined}
      onClick={() => setOpen(!open)}
    >
      <SlidersHorizontal size={16} aria-hidden="true" />
      {t("tune.open")}
      {count > 0 ? (
        <span className={styles.count} aria-label={t("tune.count", { count })}>
          {count}
        </span>
      ) : null}
    </Button>
  );
}

export function TunePanel({ id, open }: Tune) {
  const { t } = useTranslation("home");
  const taste = useTaste();
  if (!open) return null;
  const changed = filtersOf(taste) > 0 || taste.diversity > 0;
  return (
    <div id={id} className={styles.panel} role="group" aria-label={t("tune.label")}>
      <div className={styles.fields}>
        <Diversity />
        <Runtime />
        <Years />
        <SpokenLanguage />
      </div>
      <Genres />
      <div>
        <Button size="s" disabled={!changed} onClick={() => setTaste({ ...ANY })}>
          {t("tune.reset")}
        </Button>
      </div>
    </div>
  );
}

function Diversity() {
  const { t } = useTranslation("home");
  const { percent } = useFormat();
  const { diversity } = useTaste();
  const [value, setValue] = useFollowing(diversity);
  return (
    <Slider
      label={t("tune.diversity")}
      value={value}
      onChange={setValue}
      onCommit={(next) => setTaste({ diversity: next })}
      format={(share) => percent(share)}
      ends={[t("tune.best"), t("tune.varied")]}
    />
  );
}

function Runtime() {
  const { t } = useTranslation("home");
  const { minutes } = useFormat();
  const { maxRuntime } = useTaste();
  const [value, setValue] = useFollowing(maxRuntime ?? LONGEST);
  return (
    <Slider
      label={t("tune.runtime")}
      min={SHORTEST}
      max={LONGEST}
      step={10}
      value={value}
      onChange={setValue}
      onCommit={(next) => setTaste({ maxRuntime: next === LONGEST ? null : next })}
      format={(most) => (most === LONGEST ? t("tune.any") : t("tune.atMost", { minutes: minutes(most) }))}
      ends={[minutes(SHORTEST), t("tune.any")]}
    />
  );
}

function Years() {
  const { t } = useTranslation("home");
  const { yearFrom, yearTo } = useTaste();
  const last = new Date().getFullYear();
  const decades = Array.from(
    { length: Math.floor((last - FIRST_DECADE) / 10) + 1 },
    (_, index) => FIRST_DECADE + 10 * index,
  ).reverse();
  return (
    <div className={styles.pair}>
      <Choice
        label={t("tune.yearFrom")}
        value={yearFrom}
        options={decades.map((year) => [year, String(year)])}
        onChange={(value) => setTaste({ yearFrom: value === null ? null : Number(value) })}
      />
      <Choice
        label={t("tune.yearTo")}
        value={yearTo}
        options={decades.map((year) => [Math.min(year + 9, last), String(Math.min(year + 9, last))])}
        onChange={(value) => setTaste({ yearTo: value === null ? null : Number(value) })}
      />
    </div>
  );
}

function SpokenLanguage() {
  const { t } = useTranslation("home");
  const { language } = useTaste();
  const names = new Intl.DisplayNames(useLang(), { type: "language" });
  return (
    <Choice
      label={t("tune.language")}
      value={language}
      options={LANGUAGES.map((code) => [code, names.of(code) ?? code])}
      onChange={(value) => setTaste({ language: value })}
    />
  );
}

function Genres() {
  const { t } = useTranslation("home");
  const { genre: name } = useFormat();
  const { genres } = useTaste();
  const all = useGenres().data?.genres ?? [];
  return (
    <div className={styles.genres} role="group" aria-label={t("tune.genres")}>
      {all.map(({ genre }) => {
        const on = genres.includes(genre);
        return (
          <button
            key={genre}
            type="button"
            className={styles.chip}
            aria-pressed={on}
            onClick={() =>
              setTaste({ genres: on ? genres.filter((one) => one !== genre) : [...genres, genre] })
            }
          >
            {name(genre)}
          </button>
        );
      })}
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string | number | null;
  options: [string | number, string][];
  onChange: (value: string | null) => void;
}

function Choice({ label, value, options, onChange }: ChoiceProps) {
  const { t } = useTranslation("home");
  return (
    <label className={styles.choice}>
      <span>{label}</span>
      <select value={value ?? ""} onChange={(event) => onChange(event.target.value || null)}>
        <option value="">{t("tune.any")}</option>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A value that is moved here and settled elsewhere: it follows what was settled. */
function useFollowing(settled: number) {
  const [state, setState] = useState({ settled, value: settled });
  if (state.settled !== settled) setState({ settled, value: settled });
  return [state.value, (value: number) => setState({ settled, value })] as const;
}
