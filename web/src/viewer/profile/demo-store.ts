import { createStore } from "../../lib/store";

/** Whether the choice of demo users is open; it is opened from several places. */
export const choosingDemoUser = createStore<boolean>(false);
