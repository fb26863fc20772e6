import { useId, useState } from "react";
import { Link } from "react-router";
import { useTranslation } from "react-i18next";
import { useRecommendations } from "../../client/queries";
import { useFilmLink } from "../../components/film-link";
import { Skeleton } from "../../components/skeleton";
import type { Film } from "../../lib/films";
import { useFormat } from "../../lib/format";
import styles from "./reasons.module.css";

interface Props {
  film: Film & { original_language?: string | null };
}

const ASKED = 60;

/**
 * Why this film: which films of the viewer's speak for it. The API explains lists, not single films, so that one of
 * films of the same year, language and genre is asked for, in which this film stands far up.
 */
export function Reasons({ film }: Props) {
  const { t } = useTranslation("film");
  const titleId = useId();
  const { year, genres, original_language: language } = film;
  const list = useRecommendations({
    k: ASKED,
    explain: true,
    ...(year ? { year_from: year, year_to: year } : {}),
    ...(genres?.[0] ? { genre: [genres[0]] } : {}),
    ...(language ? { language: [language] } : {}),
  });
  const told = list.data?.items.find(({ item_id }) => item_id === film.item_id)?.reasons?.because;
  // A film that was acted on is recommended no more; why it was stays readable.
  const [because, setBecause] = useState(told);
  if (told !== undefined && told !== because) setBecause(told);
  return (
    <section className={styles.reasons} aria-labelledby={titleId} aria-busy={list.isPending}>
      <h2 id={titleId} className={styles.title}>
        {t("reasons")}
      </h2>
      {because !== undefined && because.length > 0 ? (
        <ul role="list" className={styles.list}>
          {because.map((reason) => (
            <Reason key={reason.item_id} reason={reason} most={because[0]?.share ?? 1} />
          ))}
        </ul>
      ) : list.isPending ? (
        <div className={styles.list} aria-hidden="true">
          {[0, 1, 2].map((line) => (
            <Skeleton key={line} height="2.25rem" />
          ))}
        </div>
      ) : (
        <p className={styles.none}>{t("noReasons")}</p>
      )}
    </section>
  );
}

function Reason({ reason, most }: { reason: Film & { share: number }; most: number }) {
  const { t } = useTranslation("film");
  const { percent } = useFormat();
  const link = useFilmLink(reason, undefined);
  return (
    <li className={styles.reason}>
      <span>
        <Link {...link}>{reason.title}</Link>
      </span>
      <span className={styles.share} title={t("share")}>
        {percent(reason.share)}
        <span className="visually-hidden"> {t("share")}</span>
      </span>
      <span className={styles.bar} aria-hidden="true">
        <span style={{ inlineSize: `${Math.min(100, (100 * reason.share) / most)}%` }} />
      </span>
    </li>
  );
}
