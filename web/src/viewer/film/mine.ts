import { useMemo } from "react";
import { useHistory } from "../../client/queries";
import { useFeedback, useRevoked, type Action, type Feedback } from "../../state/feedback";

/** What the viewer did with a film, and by which key it is taken back; null where that is not possible. */
export interface Done {
  eventKey: string | null;
  rating?: number | undefined;
  watchSeconds?: number | undefined;
}

export type Mine = Partial<Record<Action, Done>>;

interface Told {
  item_id: number;
  event: string;
  event_key: string | null;
  rating: number | null;
  watch_seconds: number | null;
}

const ACTIONS: readonly Action[] = ["watch", "rate", "like", "hide"];

/** What this browser did a moment ago, then what the history tells; what was taken back counts no more. */
export function mineOf(
  itemId: number,
  feedback: Feedback | undefined,
  history: readonly Told[],
  revoked: ReadonlySet<string>,
): Mine {
  const mine: Mine = {};
  for (const action of ACTIONS) {
    const eventKey = feedback?.keys[action];
    const told = history.find(
      ({ item_id, event, event_key }) =>
        item_id === itemId && event === action && (event_key === null || !revoked.has(event_key)),
    );
    if (eventKey !== undefined) {
      mine[action] = {
        eventKey,
        rating: action === "rate" ? feedback?.rating : undefined,
        watchSeconds: action === "watch" ? feedback?.watchSeconds : undefined,
      };
    } else if (told) {
      mine[action] = {
        eventKey: told.event_key,
        rating: told.rating ?? undefined,
        watchSeconds: told.watch_seconds ?? undefined,
      };
    }
  }
  return mine;
}

export function useMine(itemId: number): Mine {
  const feedback = useFeedback(itemId);
  const revoked = useRevoked();
  const history = useHistory().data;
  return useMemo(
    () => mineOf(itemId, feedback, history?.pages.flatMap((page) => page.events) ?? [], revoked),
    [itemId, feedback, history, revoked],
  );
}
