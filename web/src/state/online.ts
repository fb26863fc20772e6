import { createStore, useStore } from "../lib/store";

// Not navigator.onLine: a machine without a network still reaches a service of its own.
const reachable = createStore<boolean>(true);

export function markReachable(): void {
  reachable.set(true);
}

export function markUnreachable(): void {
  reachable.set(false);
}

export function useReachable(): boolean {
  return useStore(reachable);
}
