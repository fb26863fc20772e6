import { ChevronLeft, ChevronRight } from "lucide-react";
import { useId, useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import type { Film } from "../lib/films";
import { IconButton } from "./button";
import { FilmActions } from "./film-actions";
import { FilmCard, FilmCardSkeleton } from "./film-card";
import { EmptyState, ErrorState } from "./states";
import { useFlip } from "./use-flip";
import { useRoving } from "./use-roving";
import { useScrollEnds } from "./use-scroll-ends";
import { useSeen } from "./use-seen";
import styles from "./film-row.module.css";

interface Props<T extends Film> {
  title: ReactNode;
  /** Undefined while they are on their way. */
  films: readonly T[] | undefined;
  /** Of the answer the films came in: joins clicks and actions to it, and tells that the row was seen. */
  requestId?: string | undefined;
  error?: Error | null;
  onRetry?: () => unknown;
  empty?: { title: string; detail?: string; action?: ReactNode };
  /** Beside the title: a link, a switch. */
  aside?: ReactNode;
  /** Between the title and the films: what changes them. */
  below?: ReactNode;
  note?: (film: T) => ReactNode;
  /** Buttons over each poster; like and "not interested" where nothing else is said. */
  actions?: (film: T) => ReactNode;
  /** The first row of a page loads its posters at once. */
  eager?: boolean;
}

const SKELETONS = 12;
const EAGER = 8;

/**
 * A row of films that scrolls sideways: one Tab stop, arrows, Home and End move within. Films that come, go or
 * change places do so in sight.
 */
export function FilmRow<T extends Film>(props: Props<T>) {
  const { title, films, requestId, error, onRetry, empty, aside, below, note, eager = false } = props;
  const { t } = useTranslation();
  const titleId = useId();
  const section = useRef<HTMLElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const ends = useScrollEnds(list, films);
  const roving = useRoving(list, films?.length ?? 0);
  useFlip(list, films);
  useSeen(section, films === undefined || films.length === 0 ? undefined : requestId);
  const actions = props.actions ?? ((film: T) => <FilmActions film={film} requestId={requestId} />);

  return (
    <section
      ref={section}
      className={styles.row}
      aria-labelledby={titleId}
      aria-busy={films === undefined && !error}
    >
      <header className={styles.head}>
        <h2 id={titleId}>{title}</h2>
        {aside}
        <div className={styles.arrows}>
          <IconButton size="s" label={t("action.back")} disabled={ends.start} onClick={() => ends.page(-1)}>
            <ChevronLeft size={20} aria-hidden="true" />
          </IconButton>
          <IconButton size="s" label={t("action.on")} disabled={ends.end} onClick={() => ends.page(1)}>
            <ChevronRight size={20} aria-hidden="true" />
          </IconButton>
        </div>
      </header>
      {below}
      {error && films === undefined ? (
        <div className={styles.notice}>
          <ErrorState error={error} onRetry={onRetry} />
        </div>
      ) : films?.length === 0 ? (
        <div className={styles.notice}>{empty ? <EmptyState {...empty} /> : null}</div>
      ) : (
        // The list takes the arrow keys of the links in it.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
        <ul
          ref={list}
          role="list"
          className={styles.list}
          onKeyDown={roving.onKeyDown}
          onFocus={roving.onFocus}
        >
          {films === undefined
            ? Array.from({ length: SKELETONS }, (_, index) => (
                <li key={index} className={styles.cell}>
                  <FilmCardSkeleton />
                </li>
              ))
            : films.map((film, index) => (
                <li key={film.item_id} data-flip={film.item_id} className={styles.cell}>
                  <FilmCard
                    film={film}
                    requestId={requestId}
                    note={note?.(film)}
                    actions={actions(film)}
                    tabIndex={index === roving.active ? 0 : -1}
                    eager={eager && index < EAGER}
                  />
                </li>
              ))}
        </ul>
      )}
    </section>
  );
}
