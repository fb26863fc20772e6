import { SearchX } from "lucide-react";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";
import { useItems } from "../../client/queries";
import { Button } from "../../components/button";
import { FilmActions } from "../../components/film-actions";
import { FilmCard, FilmCardSkeleton } from "../../components/film-card";
import { EmptyState, ErrorState } from "../../components/states";
import { useReadOn } from "../../components/use-read-on";
import { Page } from "../../shell/page";
import { asQuestion, countFilters, NO_FILTERS, readFilters, writeFilters, type Filters } from "./filters";
import { FilterPanel } from "./filter-panel";
import { SortSelect } from "./sort-select";
import styles from "./search.module.css";

const SKELETONS = 18;
const EAGER = 12;

/** Films by title and facts; all that is asked is in the address, so that it can be kept and passed on. */
export function SearchPage() {
  const { t } = useTranslation("search");
  const [address, setAddress] = useSearchParams();
  const filters = readFilters(address);
  const list = useRef<HTMLUListElement>(null);
  const [narrow, setNarrow] = useState(false);
  const found = useItems(asQuestion(filters));
  const films = found.data?.pages.flatMap((page) => page.items);
  const chosen = countFilters(filters);
  const q = filters.q.trim();

  const change = (next: Partial<Filters>) =>
    setAddress(writeFilters({ ...filters, ...next }), { replace: true, preventScrollReset: true });
  const readOn = useReadOn(list, "li > article > a", films?.length ?? 0);
  const more = () => {
    readOn();
    return found.fetchNextPage();
  };

  return (
    <Page title={q === "" ? t("titleAll") : t("title", { q })}>
      <div className={styles.layout}>
        <FilterPanel
          filters={filters}
          onChange={change}
          isOpen={narrow}
          onToggle={() => setNarrow(!narrow)}
        />
        <section className={styles.results} aria-label={t("results")} aria-busy={found.isFetching}>
          <header className={styles.bar}>
            <p className={styles.count} role="status">
              {films && !found.isPlaceholderData && films.length > 0
                ? t(found.hasNextPage ? "shownFirst" : "shown", { count: films.length })
                : ""}
            </p>
            <SortSelect filters={filters} onChange={change} />
          </header>
          {films === undefined ? (
            found.error ? (
              <ErrorState error={found.error} onRetry={found.refetch} title={t("failed")} />
            ) : (
              <ul role="list" className={styles.grid}>
                {Array.from({ length: SKELETONS }, (_, index) => (
                  <li key={index}>
                    <FilmCardSkeleton />
                  </li>
                ))}
              </ul>
            )
          ) : films.length === 0 ? (
            <EmptyState
              icon={<SearchX />}
              title={q === "" ? t("emptyAll") : t("none", { q })}
              detail={t(chosen > 0 ? "emptyFilters" : "emptyWords")}
              action={
                chosen > 0 ? <Button onClick={() => change(NO_FILTERS)}>{t("filters.reset")}</Button> : null
              }
            />
          ) : (
            <ul ref={list} role="list" className={styles.grid} data-waiting={found.isPlaceholderData}>
              {films.map((film, index) => (
                <li key={film.item_id}>
                  <FilmCard film={film} actions={<FilmActions film={film} />} eager={index < EAGER} />
                </li>
              ))}
            </ul>
          )}
          {films && found.isFetchNextPageError ? (
            <ErrorState error={found.error} onRetry={more} />
          ) : found.hasNextPage && !found.isPlaceholderData ? (
            <Button className={styles.more} busy={found.isFetchingNextPage} onClick={() => void more()}>
              {t("more")}
            </Button>
          ) : null}
        </section>
      </div>
    </Page>
  );
}
