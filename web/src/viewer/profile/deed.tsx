import { Undo2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { components } from "../../client/schema";
import { Button } from "../../components/button";
import { Poster } from "../../components/poster";
import { RatingBadge } from "../../components/rating";
import { useLang } from "../../i18n";
import { useFormat } from "../../lib/format";
import type { Action } from "../../state/feedback";
import styles from "./profile.module.css";

interface Props {
  event: components["schemas"]["PastEvent"];
  onUndo: () => void;
}

const ACTIONS: readonly string[] = ["watch", "rate", "like", "hide"] satisfies Action[];

export function isAction(event: string): event is Action {
  return ACTIONS.includes(event);
}

const KNOWN = ["watch", "rate", "like", "hide", "click"] as const;

function isKnown(event: string): event is (typeof KNOWN)[number] {
  return KNOWN.some((known) => known === event);
}

/** One thing that the viewer did. */
export function Deed({ event, onUndo }: Props) {
  const { t } = useTranslation("profile");
  const { minutes } = useFormat();
  const lang = useLang();
  const title = event.title ?? t("history.unknown", { id: event.item_id });
  const film = { item_id: event.item_id, title, poster_url: event.poster_url };
  const time = new Intl.DateTimeFormat(lang, { timeStyle: "short" }).format(new Date(event.occurred_at));
  return (
    <li className={styles.deed}>
      <span className={styles.thumb}>
        <Poster film={film} sizes="3rem" />
      </span>
      <div className={styles.words}>
        <Link to={`/films/${event.item_id}`} className={styles.film}>
          {title}
        </Link>
        <p className={styles.facts}>
          <span>{isKnown(event.event) ? t(`event.${event.event}`) : event.event}</span>
          {event.watch_seconds === null ? null : (
            <span>{minutes(Math.max(1, Math.round(event.watch_seconds / 60)))}</span>
          )}
          {event.rating === null ? null : <RatingBadge value={event.rating} />}
          <time dateTime={event.occurred_at}>{time}</time>
        </p>
      </div>
      {event.event_key !== null && isAction(event.event) ? (
        <Button size="s" variant="quiet" aria-label={t("history.undo", { title })} onClick={onUndo}>
          <Undo2 size={16} aria-hidden="true" />
          <span className={styles.undoWord}>{t("action.undo", { ns: "common" })}</span>
        </Button>
      ) : null}
    </li>
  );
}
