import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { useItem, useSimilar } from "../../client/queries";
import { FilmRow } from "../../components/film-row";
import { Poster } from "../../components/poster";
import { RatingBadge } from "../../components/rating";
import { Skeleton } from "../../components/skeleton";
import { EmptyState, ErrorState } from "../../components/states";
import type { Film } from "../../lib/films";
import { useFormat } from "../../lib/format";
import { Actions } from "./actions";
import { Facts } from "./facts";
import { Reasons } from "./reasons";
import styles from "./film.module.css";

interface Props {
  itemId: number;
  /** What is known before the API has answered. */
  known: Film | undefined;
  requestId: string | undefined;
  /** The film's name where nothing around it says it. */
  heading?: (title: string | undefined) => ReactNode;
}

const SIMILAR = { k: 18 };

/** A film with all there is to know and to do, as a page or within a sheet. */
export function FilmView({ itemId, known, requestId, heading }: Props) {
  const { t } = useTranslation("film");
  const { genre, minutes, number } = useFormat();
  const item = useItem(itemId);
  const similar = useSimilar(itemId, SIMILAR, !item.error);
  const details = item.data;
  const film = details ?? known;

  if (item.error && details === undefined) {
    const missing = item.error instanceof Problem && item.error.status === 404;
    return (
      <div className={styles.view}>
        {heading?.(missing ? t("missing") : t("failed"))}
        {missing ? (
          <EmptyState title={t("missing")} detail={t("missingDetail")} />
        ) : (
          <ErrorState error={item.error} onRetry={item.refetch} />
        )}
      </div>
    );
  }
  const facts = [
    film?.year,
    details?.runtime_minutes && minutes(details.runtime_minutes),
    film?.genres?.map(genre).join(", "),
  ].filter(Boolean);

  return (
    <article className={styles.view} aria-busy={item.isPending}>
      <div className={styles.top}>
        <div className={styles.poster}>
          {film ? <Poster film={film} sizes="16rem" eager /> : <Skeleton ratio="2 / 3" radius="var(--r-2)" />}
        </div>
        <div className={styles.lead}>
          {heading?.(film?.title)}
          <p className={styles.line}>{film ? facts.join(" · ") : <Skeleton width="14rem" />}</p>
          <p className={styles.line}>
            {details === undefined ? (
              <Skeleton width="6rem" />
            ) : details.vote_average === null ? (
              t("unrated")
            ) : (
              <>
                <RatingBadge value={details.vote_average} />
                {details.vote_count ? t("votes", { votes: number(details.vote_count) }) : null}
              </>
            )}
          </p>
          {details?.tagline ? <p className={styles.tagline}>{details.tagline}</p> : null}
          <div className={styles.overview}>
            {details ? (
              <p>{details.overview ?? t("noOverview")}</p>
            ) : (
              [100, 96, 60].map((width) => <Skeleton key={width} width={`${width}%`} />)
            )}
          </div>
        </div>
        <div className={styles.act}>
          {film ? (
            <Actions film={film} runtime={details?.runtime_minutes ?? null} requestId={requestId} />
          ) : (
            <Skeleton height="5.5rem" />
          )}
        </div>
      </div>
      <div className={styles.more}>
        <Facts details={details} />
        {details ? <Reasons key={details.item_id} film={details} /> : <div className={styles.wait} />}
      </div>
      {similar.data?.items.length === 0 ? null : (
        <div className={styles.similar}>
          <FilmRow
            title={t("similar")}
            films={similar.data?.items}
            requestId={similar.data?.request_id}
            error={similar.error}
            onRetry={similar.refetch}
          />
        </div>
      )}
    </article>
  );
}
