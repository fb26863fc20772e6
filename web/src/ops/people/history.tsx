import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { body, opsApi } from "../../client/api";
import { Button } from "../../components/button";
import { Poster } from "../../components/poster";
import { useLang } from "../../i18n";
import { opsKeys } from "../keys";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import type { Schemas } from "../types";
import styles from "./people.module.css";
import { useEventName } from "./words";

const PAGE = 25;

/** What somebody did, newest first. */
export function History({ userId }: { userId: number }) {
  const { t } = useTranslation("ops");
  const lang = useLang();
  const history = useInfiniteQuery({
    queryKey: opsKeys.history(userId, lang),
    queryFn: ({ pageParam, signal }) =>
      body(
        opsApi().GET("/v1/users/{user_id}/history", {
          params: {
            path: { user_id: userId },
            query: { limit: PAGE, lang, ...(pageParam === null ? {} : { cursor: pageParam }) },
          },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  return (
    <Section title={t("people.history")}>
      <Loaded query={history} height="20rem">
        {({ pages }) => {
          const events = pages.flatMap((page) => page.events);
          return events.length === 0 ? (
            <p>{t("people.noEvents")}</p>
          ) : (
            <ul role="list" className={styles.history}>
              {events.map((event) => (
                <Event key={`${event.event} ${event.item_id} ${event.occurred_at}`} event={event} />
              ))}
            </ul>
          );
        }}
      </Loaded>
      {history.hasNextPage ? (
        <Button busy={history.isFetchingNextPage} onClick={() => void history.fetchNextPage()}>
          {t("more")}
        </Button>
      ) : null}
    </Section>
  );
}

function Event({ event }: { event: Schemas["PastEvent"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const eventName = useEventName();
  const title = event.title ?? t("people.removedFilm", { id: event.item_id });
  const more = [
    event.rating === null ? null : t("people.rated", { rating: format.number(event.rating) }),
    event.watch_seconds === null ? null : format.duration(event.watch_seconds),
  ].filter(Boolean);
  return (
    <li>
      <span className={styles.poster}>
        <Poster film={{ item_id: event.item_id, title, poster_url: event.poster_url }} sizes="2.25rem" />
      </span>
      <p>
        <strong>{title}</strong>
        <br />
        <span className={styles.fine}>{[eventName(event.event), ...more].join(" · ")}</span>
      </p>
      <time className={styles.when} dateTime={event.occurred_at}>
        {format.dateTime(event.occurred_at)}
      </time>
    </li>
  );
}
