import { createStore, useStore } from "../lib/store";

export type Action = "watch" | "rate" | "like" | "hide";

/** What this browser did with a film since it was opened: shown at once, before the API has answered. */
export interface Feedback {
  /** The newest event of each action, by which it is undone. */
  keys: Partial<Record<Action, string>>;
  rating?: number | undefined;
  watchSeconds?: number | undefined;
}

const store = createStore<ReadonlyMap<number, Feedback>>(new Map());

// Events taken back, which the history may still tell of until it is read anew.
const revoked = createStore<ReadonlySet<string>>(new Set());

export function useRevoked(): ReadonlySet<string> {
  return useStore(revoked);
}

export function putRevoked(eventKey: string, isRevoked: boolean): void {
  revoked.set((known) => {
    const next = new Set(known);
    if (isRevoked) next.add(eventKey);
    else next.delete(eventKey);
    return next;
  });
}

export function useFeedback(itemId: number): Feedback | undefined {
  return useStore(store).get(itemId);
}

/** Films that were acted on: rows of recommendations leave them out at once. */
export function useActedOn(): ReadonlyMap<number, Feedback> {
  return useStore(store);
}

export function feedbackOf(itemId: number): Feedback | undefined {
  return store.get().get(itemId);
}

export function putFeedback(itemId: number, feedback: Feedback | undefined): void {
  store.set((known) => {
    const next = new Map(known);
    if (feedback === undefined) next.delete(itemId);
    else next.set(itemId, feedback);
    return next;
  });
}

/** What is known of one action becomes what it was; the others stay what they have become since. */
export function putAction(itemId: number, action: Action, was: Feedback | undefined): void {
  const now = feedbackOf(itemId);
  const others = Object.entries(now?.keys ?? {}).filter(([name]) => name !== action);
  const key = was?.keys[action];
  const keys = { ...Object.fromEntries(others), ...(key === undefined ? {} : { [action]: key }) };
  const { rating } = (action === "rate" ? was : now) ?? {};
  const { watchSeconds } = (action === "watch" ? was : now) ?? {};
  putFeedback(itemId, Object.keys(keys).length === 0 ? undefined : { keys, rating, watchSeconds });
}

/** Another person sits here now. */
export function forgetFeedback(): void {
  store.set(new Map());
  revoked.set(new Set());
}
