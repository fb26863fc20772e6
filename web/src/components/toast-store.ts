import { createStore } from "../lib/store";

export interface ToastMessage {
  id: number;
  title: string;
  detail?: string | undefined;
  tone?: "plain" | "error";
  action?: { label: string; run: () => void };
}

const SHOWN_AT_ONCE = 3;
let nextId = 1;

export const toasts = createStore<readonly ToastMessage[]>([]);

/** Where messages are shown: an open dialog covers all else, and lets nothing beneath it be clicked. */
export const toastHost = createStore<{ element: HTMLElement | null }>({ element: null });

/** Show a message for some seconds, from anywhere. */
export function toast(message: Omit<ToastMessage, "id">): void {
  toasts.set((shown) => [...shown, { ...message, id: nextId++ }].slice(-SHOWN_AT_ONCE));
}

export function dismiss(id: number): void {
  toasts.set((shown) => shown.filter((message) => message.id !== id));
}
