import { createStore, useStore } from "../lib/store";

/** What this browser keeps of a viewer's wishes. */
export interface Preferences {
  /** How varied rows of recommendations are, 0–1; null: as the service does by itself. */
  diversity: number | null;
  /** Whether the key "/" leads to the search. A shortcut of one character must be one that can be switched off. */
  slash: boolean;
}

const KEPT = "marquee.preferences";
const DEFAULT: Preferences = { diversity: null, slash: true };
const store = createStore<Preferences>(read());

export function usePreferences(): Preferences {
  return useStore(store);
}

export function prefer(change: Partial<Preferences>): void {
  store.set((known) => ({ ...known, ...change }));
  localStorage.setItem(KEPT, JSON.stringify(store.get()));
}

function read(): Preferences {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}") as Partial<Preferences>;
    const { diversity, slash } = kept;
    return {
      diversity: typeof diversity === "number" && diversity >= 0 && diversity <= 1 ? diversity : null,
      slash: slash !== false,
    };
  } catch {
    return DEFAULT;
  }
}
