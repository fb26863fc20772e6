import { useHistory } from "../../client/queries";
import { createStore, useStore } from "../../lib/store";

const KEPT = "marquee.welcomed";
const welcomed = createStore<boolean>(localStorage.getItem(KEPT) !== null);

/** Whether the viewer should be asked for films they like; undefined until that is known. Once is enough. */
export function useNewcomer(): boolean | undefined {
  const done = useStore(welcomed);
  const history = useHistory();
  if (done || history.isError) return false;
  return history.data === undefined ? undefined : history.data.pages[0]?.events.length === 0;
}

/** From now on this browser is not asked again by itself, whether films were picked or not. */
export function welcome(): void {
  localStorage.setItem(KEPT, "1");
  welcomed.set(true);
}
