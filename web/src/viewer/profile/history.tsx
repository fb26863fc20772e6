import { History as Clock } from "lucide-react";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useUndo } from "../../client/events";
import { useHistory } from "../../client/queries";
import type { components } from "../../client/schema";
import { Button, ButtonLink } from "../../components/button";
import { Skeleton } from "../../components/skeleton";
import { EmptyState, ErrorState } from "../../components/states";
import { toast } from "../../components/toast-store";
import { useReadOn } from "../../components/use-read-on";
import { useFormat } from "../../lib/format";
import { Deed, isAction } from "./deed";
import styles from "./profile.module.css";

type PastEvent = components["schemas"]["PastEvent"];

const PER_PAGE = 30;
const SKELETONS = 6;

/** What the viewer did, by day; single events can be taken back. */
export function History() {
  const { t } = useTranslation("profile");
  const { date } = useFormat();
  const history = useHistory(PER_PAGE);
  const undo = useUndo();
  const list = useRef<HTMLDivElement>(null);
  const [undone, setUndone] = useState<ReadonlySet<string>>(new Set());
  const events = history.data?.pages
    .flatMap((page) => page.events)
    .filter(({ event_key }) => event_key === null || !undone.has(event_key));

  const takeBack = ({ item_id, title, event, event_key: eventKey }: PastEvent) => {
    if (eventKey === null || !isAction(event)) return;
    // The row goes at once; the focus would go with it.
    list.current?.focus({ preventScroll: true });
    setUndone((keys) => new Set(keys).add(eventKey));
    const film = { item_id, title: title ?? String(item_id) };
    undo.mutate(
      { action: event, film, eventKey },
      {
        onSuccess: () => toast({ title: t("history.undone", { title: film.title }) }),
        onError: () => setUndone((keys) => new Set([...keys].filter((key) => key !== eventKey))),
      },
    );
  };
  const readOn = useReadOn(list, "li a", events?.length ?? 0);
  const more = () => {
    readOn();
    return history.fetchNextPage();
  };

  return (
    <section aria-labelledby="history" aria-busy={history.isPending} className={styles.history}>
      <h2 id="history">{t("history.title")}</h2>
      {events === undefined ? (
        history.error ? (
          <ErrorState error={history.error} onRetry={history.refetch} />
        ) : (
          Array.from({ length: SKELETONS }, (_, index) => (
            <Skeleton key={index} height="5.5rem" radius="var(--r-2)" />
          ))
        )
      ) : events.length === 0 ? (
        <EmptyState
          icon={<Clock />}
          title={t("history.empty")}
          detail={t("history.emptyDetail")}
          action={
            <ButtonLink to="/" variant="primary">
              {t("history.start")}
            </ButtonLink>
          }
        />
      ) : (
        <div ref={list} tabIndex={-1} className={styles.days}>
          {byDay(events, date).map(([day, those]) => (
            <section key={day} aria-label={day} className={styles.day}>
              <h3>{day}</h3>
              <ul role="list">
                {those.map((event, index) => (
                  <Deed
                    key={event.event_key ?? `${event.occurred_at}-${event.item_id}-${index}`}
                    event={event}
                    onUndo={() => takeBack(event)}
                  />
                ))}
              </ul>
            </section>
          ))}
        </div>
      )}
      {history.isFetchNextPageError ? (
        <ErrorState error={history.error} onRetry={more} />
      ) : history.hasNextPage ? (
        <Button className={styles.more} busy={history.isFetchingNextPage} onClick={() => void more()}>
          {t("history.more")}
        </Button>
      ) : null}
    </section>
  );
}

function byDay(events: PastEvent[], date: (iso: string) => string): [string, PastEvent[]][] {
  const days = new Map<string, PastEvent[]>();
  for (const event of events) {
    const day = date(event.occurred_at);
    days.set(day, [...(days.get(day) ?? []), event]);
  }
  return [...days];
}
