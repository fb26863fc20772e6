import { useEffect, type RefObject } from "react";
import { reportQuietly } from "../client/events";

const told = new Set<string>();

/** Tells the API, once per answer, that the list of that answer came on screen. */
export function useSeen(element: RefObject<Element | null>, requestId: string | undefined): void {
  useEffect(() => {
    if (requestId === undefined || element.current === null || told.has(requestId)) return;
    const watcher = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        watcher.disconnect();
        told.add(requestId);
        reportQuietly({ event: "view", request_id: requestId });
      },
      { threshold: 0.5 },
    );
    watcher.observe(element.current);
    return () => watcher.disconnect();
  }, [element, requestId]);
}
