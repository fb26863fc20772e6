import { useEffect, useId, useState, type KeyboardEvent, type PointerEvent } from "react";

interface Options {
  /** How many options the list has just now. */
  count: number;
  onChoose: (index: number) => void;
  /** Escape while the list is closed. */
  onEscape?: () => void;
  /** Whether the first option is chosen by Enter without going to it: where one of them must be. */
  first?: boolean;
}

/**
 * What makes a text field and a list below it a combobox (ARIA 1.2): the focus stays in the field, arrows go through
 * the list, Enter chooses, Escape closes. Keys of an input method, as for Hangul, are left to it.
 */
export function useCombobox({ count, onChoose, onEscape, first = false }: Options) {
  const id = useId();
  const [isOpen, setOpen] = useState(false);
  const [marked, setMarked] = useState(-1);
  const start = first ? 0 : -1;
  const active = !isOpen || count === 0 ? -1 : marked < count ? Math.max(marked, start) : start;
  const optionId = (index: number) => `${id}-${index}`;

  useEffect(() => {
    if (active >= 0) document.getElementById(`${id}-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [id, active]);

  const open = () => {
    setOpen(true);
    setMarked(start);
  };
  const close = () => setOpen(false);
  const choose = (index: number) => {
    close();
    onChoose(index);
  };
  /** One place further, past the end into the field (or to the other end, where one option must be chosen). */
  const step = (by: 1 | -1) => {
    const stops = first ? count : count + 1;
    const place = first ? active : active + 1;
    const next = (place + by + stops) % stops;
    setMarked(first ? next : next - 1);
  };

  return {
    isOpen,
    active,
    open,
    close,
    inputProps: {
      role: "combobox" as const,
      "aria-autocomplete": "list" as const,
      "aria-expanded": isOpen && count > 0,
      "aria-controls": id,
      "aria-activedescendant": active >= 0 ? optionId(active) : undefined,
      autoComplete: "off",
      spellCheck: false,
      onKeyDown: (event: KeyboardEvent) => {
        if (event.nativeEvent.isComposing) return;
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
          event.preventDefault();
          if (!isOpen) {
            setOpen(true);
            setMarked(event.key === "ArrowDown" ? 0 : count - 1);
          } else if (count > 0) step(event.key === "ArrowDown" ? 1 : -1);
        } else if (event.key === "Enter" && active >= 0) {
          event.preventDefault();
          choose(active);
        } else if (event.key === "Escape") {
          if (isOpen) {
            // The list closes, and not the dialog around it too.
            event.preventDefault();
            event.stopPropagation();
            close();
          } else onEscape?.();
        }
      },
    },
    listProps: { id, role: "listbox" as const },
    optionProps: (index: number) => ({
      id: optionId(index),
      role: "option" as const,
      "aria-selected": index === active,
      // The focus stays in the field.
      onPointerDown: (event: PointerEvent) => event.preventDefault(),
      onPointerMove: () => setMarked(index),
      onClick: () => choose(index),
    }),
  };
}
