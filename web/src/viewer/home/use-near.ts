import { useEffect, useState, type RefObject } from "react";

/** Whether an element came near the screen; from then on it stays so. */
export function useNear(element: RefObject<Element | null>, margin = "900px"): boolean {
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near || element.current === null) return;
    const watcher = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) setNear(true);
      },
      { rootMargin: margin },
    );
    watcher.observe(element.current);
    return () => watcher.disconnect();
  }, [element, near, margin]);
  return near;
}
