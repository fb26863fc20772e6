import { useEffect, useRef, type RefObject } from "react";

/**
 * For lists that grow by a button, which may be gone then: call what this returns when it is pressed, and the focus
 * goes to the first link that came, where reading goes on.
 */
export function useReadOn(list: RefObject<HTMLElement | null>, selector: string, length: number): () => void {
  const known = useRef<number | null>(null);
  useEffect(() => {
    if (known.current === null || length <= known.current) return;
    list.current?.querySelectorAll<HTMLElement>(selector)[known.current]?.focus({ preventScroll: true });
    known.current = null;
  }, [list, selector, length]);
  return () => {
    known.current = length;
  };
}
