import { createStore, useStore } from "./lib/store";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const CHOSEN = "marquee.theme";
const store = createStore<Theme>("system");

/** Before the first paint, so that nothing flashes. */
export function startTheme(): void {
  const chosen = localStorage.getItem(CHOSEN);
  apply(THEMES.find((theme) => theme === chosen) ?? "system");
}

export function setTheme(theme: Theme): void {
  localStorage.setItem(CHOSEN, theme);
  apply(theme);
}

export function useTheme(): Theme {
  return useStore(store);
}

function apply(theme: Theme): void {
  store.set(theme);
  // Without the attribute the style sheet follows the system, also while it changes.
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
