import { SlidersHorizontal } from "lucide-react";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import { useGenres } from "../../client/queries";
import { Button } from "../../components/button";
import { Field, Input, Select } from "../../components/field";
import { Skeleton } from "../../components/skeleton";
import { useLang } from "../../i18n";
import { useFormat } from "../../lib/format";
import { countFilters, NO_FILTERS, type Filters } from "./filters";
import styles from "./search.module.css";

interface Props {
  filters: Filters;
  onChange: (change: Partial<Filters>) => void;
  /** On a phone the panel is behind a button. */
  isOpen: boolean;
  onToggle: () => void;
}

/** Original languages of most films; one that an address names is offered too. "cn" is TMDB's for Cantonese. */
const LANGUAGES = "en ko ja zh cn fr es it de pt hi ru sv da no pl tr th".split(" ");
const RUNTIMES = [90, 120, 150, 180];

export function FilterPanel({ filters, onChange, isOpen, onToggle }: Props) {
  const { t } = useTranslation("search");
  const id = useId();
  const chosen = countFilters(filters);
  return (
    <aside className={styles.panel} aria-label={t("filters.label")}>
      <div className={styles.panelHead}>
        <Button className={styles.toggle} aria-expanded={isOpen} aria-controls={id} onClick={onToggle}>
          <SlidersHorizontal size={16} aria-hidden="true" />
          {chosen > 0 ? t("filters.count", { count: chosen }) : t("filters.label")}
        </Button>
        <h2 className={styles.panelTitle}>{t("filters.label")}</h2>
        {chosen > 0 ? (
          <Button variant="quiet" size="s" onClick={() => onChange({ ...NO_FILTERS, sort: filters.sort })}>
            {t("filters.reset")}
          </Button>
        ) : null}
      </div>
      <div id={id} className={styles.fields} data-open={isOpen}>
        <Genres chosen={filters.genres} onChange={(genres) => onChange({ genres })} />
        <Years filters={filters} onChange={onChange} />
        <Languages language={filters.language} onChange={(language) => onChange({ language })} />
        <Runtime runtime={filters.runtime} onChange={(runtime) => onChange({ runtime })} />
      </div>
    </aside>
  );
}

function Genres({ chosen, onChange }: { chosen: string[]; onChange: (genres: string[]) => void }) {
  const { t } = useTranslation("search");
  const { genre: nameOf } = useFormat();
  const genres = useGenres();
  const known = genres.data?.genres.map(({ genre }) => genre) ?? [];
  // What an address names stays visible, and with it the way to take it out.
  const offered = [...known, ...chosen.filter((genre) => !known.includes(genre))];
  return (
    <fieldset className={styles.genres}>
      <legend>{t("filters.genres")}</legend>
      {genres.isPending
        ? Array.from({ length: 19 }, (_, index) => (
            <Skeleton key={index} width={`${4 + (index % 3)}rem`} height="2rem" radius="var(--r-full)" />
          ))
        : offered.map((genre) => (
            <label key={genre} className={styles.chip}>
              <input
                type="checkbox"
                className="visually-hidden"
                checked={chosen.includes(genre)}
                onChange={(event) =>
                  onChange(
                    event.target.checked ? [...chosen, genre] : chosen.filter((other) => other !== genre),
                  )
                }
              />
              {nameOf(genre)}
            </label>
          ))}
      {genres.error ? (
        <Button size="s" onClick={() => void genres.refetch()}>
          {t("filters.genresFailed")}
        </Button>
      ) : null}
    </fieldset>
  );
}

function Years({ filters, onChange }: Pick<Props, "filters" | "onChange">) {
  const { t } = useTranslation("search");
  return (
    <fieldset className={styles.years}>
      <legend>{t("filters.years")}</legend>
      <Year label={t("filters.from")} year={filters.from} onChange={(from) => onChange({ from })} />
      <span aria-hidden="true">–</span>
      <Year label={t("filters.to")} year={filters.to} onChange={(to) => onChange({ to })} />
    </fieldset>
  );
}

/** Asked for when it is a whole year, or none. */
function Year(props: { label: string; year: number | null; onChange: (year: number | null) => void }) {
  const { label, year, onChange } = props;
  const [text, setText] = useState(year?.toString() ?? "");
  const [adopted, setAdopted] = useState(year);
  if (year !== adopted) {
    setAdopted(year);
    setText(year?.toString() ?? "");
  }
  return (
    <Input
      aria-label={label}
      placeholder={label}
      inputMode="numeric"
      maxLength={4}
      value={text}
      onChange={(event) => {
        const next = event.target.value.replace(/\D/g, "");
        setText(next);
        if (next.length === 4 && Number(next) > 0) onChange(Number(next));
        if (next === "") onChange(null);
      }}
      onBlur={() => setText(year?.toString() ?? "")}
    />
  );
}

function Languages(props: { language: string | null; onChange: (language: string | null) => void }) {
  const { language, onChange } = props;
  const { t } = useTranslation("search");
  const names = new Intl.DisplayNames(useLang(), { type: "language" });
  const offered = language === null || LANGUAGES.includes(language) ? LANGUAGES : [...LANGUAGES, language];
  return (
    <Field label={t("filters.language")}>
      {(wiring) => (
        <Select {...wiring} value={language ?? ""} onChange={(event) => onChange(event.target.value || null)}>
          <option value="">{t("filters.any")}</option>
          {offered.map((code) => (
            <option key={code} value={code}>
              {names.of(code === "cn" ? "yue" : code)}
            </option>
          ))}
        </Select>
      )}
    </Field>
  );
}

function Runtime({ runtime, onChange }: { runtime: number | null; onChange: (most: number | null) => void }) {
  const { t } = useTranslation("search");
  const { minutes } = useFormat();
  const offered = runtime === null || RUNTIMES.includes(runtime) ? RUNTIMES : [...RUNTIMES, runtime];
  return (
    <Field label={t("filters.runtime")}>
      {(wiring) => (
        <Select
          {...wiring}
          value={runtime ?? ""}
          onChange={(event) => onChange(event.target.value === "" ? null : Number(event.target.value))}
        >
          <option value="">{t("filters.any")}</option>
          {offered.map((most) => (
            <option key={most} value={most}>
              {t("filters.atMost", { time: minutes(most) })}
            </option>
          ))}
        </Select>
      )}
    </Field>
  );
}
