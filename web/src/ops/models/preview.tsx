import type { UseQueryResult } from "@tanstack/react-query";
import { ArrowDown, ArrowUp, Equal, Sparkles } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { Poster } from "../../components/poster";
import { Tag } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import type { Schemas } from "../types";
import styles from "./preview.module.css";

type Item = Schemas["RecommendedItem"];

interface Props {
  title: string;
  query: UseQueryResult<Schemas["RecommendationList"]>;
  /** Rank of each film in the list beside this one. */
  others?: ReadonlyMap<number, number>;
}

/** What a version would show somebody, and why. */
export function Preview({ title, query, others }: Props) {
  const { t } = useTranslation("ops");
  const shared = query.data?.items.filter((film) => others?.has(film.item_id)).length ?? 0;
  return (
    <Section
      title={title}
      lead={others && query.data ? t("models.shared", { n: shared, of: query.data.items.length }) : undefined}
      actions={query.data ? <Tier tier={query.data.tier} /> : null}
    >
      <Loaded query={query} height="36rem">
        {({ items }) =>
          items.length === 0 ? (
            <p>{t("models.nothingToShow")}</p>
          ) : (
            <ol role="list" className={styles.films}>
              {items.map((film) => (
                <li key={film.item_id}>
                  <Film film={film} other={others ? (others.get(film.item_id) ?? null) : undefined} />
                </li>
              ))}
            </ol>
          )
        }
      </Loaded>
    </Section>
  );
}

function Tier({ tier }: { tier: Schemas["RecommendationList"]["tier"] }) {
  const { t } = useTranslation("ops");
  return <Tag>{t(`overview.tier.${tier}`)}</Tag>;
}

function Film({ film, other }: { film: Item; other: number | null | undefined }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const because = film.reasons?.because ?? [];
  return (
    <div className={styles.film}>
      <span className={styles.rank}>{film.rank}</span>
      <span className={styles.poster}>
        <Poster film={film} sizes="3rem" />
      </span>
      <div className={styles.text}>
        <p className={styles.title}>
          <Link to={`/films/${film.item_id}`}>{film.title}</Link>
          {film.year ? <span> {film.year}</span> : null}
        </p>
        <p className={styles.why}>
          {because.length > 0
            ? t("models.becauseOf", {
                films: because
                  .slice(0, 3)
                  .map(({ title, share }) => `${title} (${format.percent(share)})`)
                  .join(", "),
              })
            : t("models.noReason")}
        </p>
        {film.reasons && film.reasons.features.length > 0 ? (
          <p className={styles.why}>{film.reasons.features.join(", ")}</p>
        ) : null}
      </div>
      <div className={styles.score}>
        {format.figure(film.score, 3)}
        {other === undefined ? null : <Moved rank={film.rank} other={other} />}
      </div>
    </div>
  );
}

/** How its rank differs from that in the other list. */
function Moved({ rank, other }: { rank: number; other: number | null }) {
  const { t } = useTranslation("ops");
  if (other === null) {
    return (
      <span className={styles.moved} data-moved="only">
        <Sparkles size={12} aria-hidden="true" />
        {t("models.onlyHere")}
      </span>
    );
  }
  const Icon = other === rank ? Equal : other > rank ? ArrowUp : ArrowDown;
  return (
    <span className={styles.moved}>
      <Icon size={12} aria-hidden="true" />
      {t("models.otherRank", { rank: other })}
    </span>
  );
}
