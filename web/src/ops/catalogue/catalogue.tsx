import { Search } from "lucide-react";
import { useDeferredValue, useId, useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { Poster } from "../../components/poster";
import { EmptyState } from "../../components/states";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { AddFilm } from "./add-film";
import styles from "./catalogue.module.css";
import { FilmSheet } from "./film-sheet";
import { useCatalogue } from "./queries";
import { useSettled } from "./use-settled";

const NUMBER = /^\d{1,15}$/;

export function Catalogue() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const [typed, setTyped] = useState("");
  const [opened, setOpened] = useState<number | null>(null);
  const query = useDeferredValue(useSettled(typed.trim()));
  const items = useCatalogue(query);
  const inputId = useId();
  return (
    <OpsPage
      title={t("catalogue.title")}
      lead={t("catalogue.lead")}
      actions={<AddFilm onAdded={setOpened} />}
    >
      <Section title={t("catalogue.films")}>
        <div className={styles.search}>
          <label htmlFor={inputId} className="visually-hidden">
            {t("catalogue.search")}
          </label>
          <Search size={18} aria-hidden="true" />
          <input
            id={inputId}
            type="search"
            value={typed}
            placeholder={t("catalogue.search")}
            onChange={(event) => setTyped(event.target.value)}
          />
        </div>
        {NUMBER.test(query) ? (
          <Button onClick={() => setOpened(Number(query))}>
            {t("catalogue.openNumber", { number: query })}
          </Button>
        ) : null}
        <Loaded query={items} height="30rem">
          {({ pages }) => {
            const found = pages.flatMap((page) => page.items);
            return found.length === 0 ? (
              <EmptyState title={t("catalogue.emptyTitle")} detail={t("catalogue.emptyDetail")} />
            ) : (
              <ul role="list" className={styles.films} aria-busy={items.isPlaceholderData}>
                {found.map((film) => (
                  <li key={film.item_id}>
                    <button type="button" className={styles.film} onClick={() => setOpened(film.item_id)}>
                      <span className={styles.poster}>
                        <Poster film={film} sizes="3rem" />
                      </span>
                      <span className={styles.text}>
                        <strong>{film.title}</strong>
                        <span>
                          {[film.year, ...film.genres.slice(0, 2).map(format.genre)]
                            .filter(Boolean)
                            .join(" · ")}
                        </span>
                        <span className={styles.number}>{film.item_id}</span>
                      </span>
                    </button>
                  </li>
                ))}
              </ul>
            );
          }}
        </Loaded>
        {items.hasNextPage ? (
          <Button busy={items.isFetchingNextPage} onClick={() => void items.fetchNextPage()}>
            {t("more")}
          </Button>
        ) : null}
      </Section>
      <FilmSheet itemId={opened} onClose={() => setOpened(null)} />
    </OpsPage>
  );
}
