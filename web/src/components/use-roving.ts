import { useState, type FocusEvent, type KeyboardEvent, type RefObject } from "react";

const STEPS: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

/** One Tab stop for a list of links marked `data-roving`; the arrows move along them. */
export function useRoving(list: RefObject<HTMLElement | null>, length: number) {
  const [chosen, setChosen] = useState(0);
  const active = Math.max(0, Math.min(chosen, length - 1));
  const stops = () => Array.from(list.current?.querySelectorAll<HTMLElement>("[data-roving]") ?? []);
  return {
    active,
    onFocus: (event: FocusEvent) => {
      const index = stops().indexOf(event.target as HTMLElement);
      if (index >= 0) setChosen(index);
    },
    onKeyDown: (event: KeyboardEvent) => {
      const step = STEPS[event.key];
      const all = stops();
      if (step === undefined || !all.includes(event.target as HTMLElement)) return;
      event.preventDefault();
      const next = all[Math.max(0, Math.min(active + step, all.length - 1))];
      next?.focus({ preventScroll: true });
      next?.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "smooth" });
    },
  };
}
