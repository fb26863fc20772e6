import { useRef } from "react";
import { useTranslation } from "react-i18next";
import { FilmRow } from "../../components/film-row";
import { Button, ButtonLink } from "../../components/button";
import { ErrorState } from "../../components/states";
import { useFormat } from "../../lib/format";
import { Hero } from "./hero";
import { FEWEST } from "./rows";
import { ANY, filtersOf, setTaste, useTaste } from "./taste";
import { TunePanel, TuneToggle, useTune } from "./tune";
import { useHome, type Row } from "./use-home";
import { useNear } from "./use-near";
import styles from "./home.module.css";

export function Home() {
  const { t } = useTranslation("home");
  const { genre } = useFormat();
  const depths = useRef<HTMLDivElement>(null);
  const home = useHome(useNear(depths));
  const tune = useTune();
  const filtered = filtersOf(useTaste()) > 0;
  const { forYou, latest, trending } = home;

  if (forYou.error && trending.error && !forYou.films && !trending.films) {
    const retry = () => Promise.all([forYou, latest, trending].map((row) => row.retry()));
    return (
      <div className={styles.page}>
        <h1 className="visually-hidden">{t("title")}</h1>
        <ErrorState error={forYou.error} onRetry={retry} />
      </div>
    );
  }
  return (
    <div className={styles.rows}>
      <h1 className="visually-hidden">{t("title")}</h1>
      <Hero {...home.hero} isNew={home.isNew} />
      <FilmRow
        {...propsOf(forYou)}
        title={t("forYou")}
        aside={<TuneToggle {...tune} />}
        below={<TunePanel {...tune} />}
        empty={
          filtered
            ? { title: t("noneFits"), detail: t("noneFitsDetail"), action: <Reset /> }
            : { title: t("emptyTitle"), detail: t("emptyDetail") }
        }
        eager
      />
      <Shelf row={latest} title={t("latest")} />
      {home.because.map((row, place) => (
        <Shelf
          key={place}
          row={row}
          title={t(row.seed?.liked ? "becauseLiked" : "becauseWatched", { title: row.seed?.title })}
        />
      ))}
      <Shelf row={trending} title={t("trending")} />
      <div ref={depths} className={styles.rows}>
        {home.genres.map((row) => (
          <Shelf key={row.genre} row={row} title={t("genre", { genre: genre(row.genre) })} />
        ))}
      </div>
      <p className={styles.more}>
        <ButtonLink to="/welcome">{t("pickMore")}</ButtonLink>
      </p>
    </div>
  );
}

function Reset() {
  const { t } = useTranslation("home");
  return <Button onClick={() => setTaste({ ...ANY })}>{t("tune.reset")}</Button>;
}

/** A row that is left out where there is too little for it. */
function Shelf({ row, title }: { row: Row; title: string }) {
  if (row.films !== undefined && row.films.length < FEWEST) return null;
  return <FilmRow {...propsOf(row)} title={title} />;
}

function propsOf({ films, requestId, error, retry }: Row) {
  return { films, requestId, error: films === undefined ? error : null, onRetry: retry };
}
