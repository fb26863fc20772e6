import { createStore, useStore } from "../lib/store";

/** What this browser keeps of a viewer's wishes. */
export interface Preferences {
  /** How varied rows of recommendations are to begin with: 0 the best by score, 1 as varied as can be. */
  diversity: number;
  /** Whether the key "/" leads to the search. A shortcut of one character must be one that can be switched off. */
  slash: boolean;
}

const KEPT = "marquee.preferences";
const store = createStore<Preferences>(kept());

export function preferences(): Preferences {
  return store.get();
}

export function usePreferences(): Preferences {
  return useStore(store);
}

export function prefer(change: Partial<Preferences>): void {
  store.set((known) => ({ ...known, ...change }));
  localStorage.setItem(KEPT, JSON.stringify(store.get()));
}

function kept(): Preferences {
  try {
    const { diversity, slash } = JSON.parse(localStorage.getItem(KEPT) ?? "{}") as Partial<Preferences>;
    const known = typeof diversity === "number" && diversity >= 0 && diversity <= 1;
    return { diversity: known ? diversity : 0, slash: slash !== false };
  } catch {
    return { diversity: 0, slash: true };
  }
}
