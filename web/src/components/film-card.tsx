import { memo, type ReactNode } from "react";
import { Link } from "react-router";
import { reportQuietly } from "../client/events";
import type { Film } from "../lib/films";
import { useFormat } from "../lib/format";
import { useFeedback } from "../state/feedback";
import { useFilmLink } from "./film-link";
import { Poster } from "./poster";
import { Skeleton } from "./skeleton";
import styles from "./film-card.module.css";

interface Props {
  film: Film;
  /** Of the list it is shown in; opening the film then counts as a click of that list. */
  requestId?: string | undefined;
  /** Shown in place of year and genre: "because you watched …". */
  note?: ReactNode;
  /** Buttons over the poster, visible on hover and focus. */
  actions?: ReactNode;
  tabIndex?: number;
  eager?: boolean;
}

export const FilmCard = memo(function FilmCard({ film, requestId, note, actions, tabIndex, eager }: Props) {
  const { genre } = useFormat();
  const link = useFilmLink(film, requestId);
  const liked = useFeedback(film.item_id)?.keys.like !== undefined;
  const facts = [film.year, film.genres?.[0] && genre(film.genres[0])].filter(Boolean).join(" · ");
  return (
    <article className={styles.card} data-liked={liked}>
      <Link
        {...link}
        className={styles.link}
        tabIndex={tabIndex}
        data-roving=""
        onClick={() => {
          if (requestId !== undefined)
            reportQuietly({ event: "click", item_id: film.item_id, request_id: requestId });
        }}
      >
        <Poster film={film} eager={eager ?? false} />
        <span className={styles.title}>{film.title}</span>
        <span className={styles.facts}>{note ?? (facts || "\u00a0")}</span>
      </Link>
      {actions ? <div className={styles.actions}>{actions}</div> : null}
    </article>
  );
});

/** The place of a card that is on its way. */
export function FilmCardSkeleton() {
  return (
    <div className={styles.card} aria-hidden="true">
      <Skeleton ratio="2 / 3" radius="var(--r-2)" />
      <span className={styles.title}>
        <Skeleton width="80%" />
      </span>
      <span className={styles.facts}>
        <Skeleton width="55%" />
      </span>
    </div>
  );
}
