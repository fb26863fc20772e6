import { useHistory } from "../../client/queries";
import { createStore, useStore } from "../../lib/store";

const KEPT = "marquee.welcomed";
const welcomed = createStore<boolean>(localStorage.getItem(KEPT) !== null);

/** Whether the viewer should be asked for films they like; undefined until that is known. Once is enough. */
export function useNewcomer(): boolean | undefined {
  const done = useStore(welcomed);
  const history = useHistory();
  if (done) return false;
  if (history.data !== undefined) return history.data.pages[0]?.events.length === 0;
  // Where it cannot be known, nobody is asked; also not while it is tried again.
  return history.errorUpdateCount > 0 ? false : undefined;
}

/** From now on this browser is not asked again by itself, whether films were picked or not. */
export function welcome(): void {
  localStorage.setItem(KEPT, "1");
  welcomed.set(true);
}

/** Whoever is forgotten is a newcomer again. */
export function unwelcome(): void {
  localStorage.removeItem(KEPT);
  welcomed.set(false);
}
