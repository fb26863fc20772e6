import { ArrowRight } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { Button } from "../../components/button";
import { Poster } from "../../components/poster";
import { Skeleton } from "../../components/skeleton";
import type { useCombobox } from "../../components/use-combobox";
import type { Film } from "../../lib/films";
import { useFormat } from "../../lib/format";
import styles from "./search-box.module.css";

interface Props {
  combobox: Pick<ReturnType<typeof useCombobox>, "listProps" | "optionProps">;
  films: readonly (Film & { original_title?: string | null })[];
  q: string;
  /** What is shown answers an earlier question. */
  isWaiting: boolean;
  error: Error | null;
  onRetry: () => void;
}

const SKELETONS = 4;

/** What lies below the search field: films, the way to all of them, or why there are none. */
export function Suggestions({ combobox, films, q, isWaiting, error, onRetry }: Props) {
  const { t } = useTranslation("search");
  const { genre } = useFormat();
  const { listProps, optionProps } = combobox;
  const said = error ? t("failed") : isWaiting ? "" : t("suggested", { count: films.length });
  return (
    <div className={styles.popup} aria-busy={isWaiting}>
      <p className="visually-hidden" role="status">
        {said}
      </p>
      {error ? (
        <div className={styles.notice}>
          <p>{error instanceof Problem && error.fix ? `${t("failed")} ${error.fix}` : t("failed")}</p>
          <Button size="s" onClick={onRetry}>
            {t("action.retry", { ns: "common" })}
          </Button>
        </div>
      ) : films.length > 0 ? (
        <ul {...listProps} className={styles.list} aria-label={t("suggestions")} data-waiting={isWaiting}>
          {films.map((film, index) => (
            <li key={film.item_id} {...optionProps(index)} className={styles.option}>
              <span className={styles.thumb}>
                <Poster film={film} sizes="2.5rem" />
              </span>
              <span className={styles.words}>
                <span className={styles.title}>{film.title}</span>
                <span className={styles.facts}>
                  {[film.year, film.original_title, film.genres?.[0] && genre(film.genres[0])]
                    .filter((fact) => fact && fact !== film.title)
                    .join(" · ")}
                </span>
              </span>
            </li>
          ))}
          <li {...optionProps(films.length)} className={styles.option} data-all="">
            <span className={styles.title}>{t("all", { q })}</span>
            <ArrowRight size={16} aria-hidden="true" />
          </li>
        </ul>
      ) : isWaiting ? (
        <div className={styles.list} aria-hidden="true">
          {Array.from({ length: SKELETONS }, (_, index) => (
            <div key={index} className={styles.option}>
              <span className={styles.thumb}>
                <Skeleton ratio="2 / 3" />
              </span>
              <span className={styles.words}>
                <Skeleton width="60%" />
                <Skeleton width="35%" height="0.75rem" />
              </span>
            </div>
          ))}
        </div>
      ) : (
        <p className={styles.notice}>{t("none", { q })}</p>
      )}
    </div>
  );
}
