import { useEffect, useState, type RefObject } from "react";
import { stillPreferred } from "../lib/motion";

const PAGE = 0.85;

/** Whether a list is scrolled to its start and end, and a way to scroll it by pages. */
export function useScrollEnds(list: RefObject<HTMLElement | null>, change: unknown) {
  const [ends, setEnds] = useState({ start: true, end: true });
  useEffect(() => {
    const element = list.current;
    if (!element) return;
    const look = () => {
      const { scrollLeft, clientWidth, scrollWidth } = element;
      const start = scrollLeft <= 1;
      const end = scrollLeft + clientWidth >= scrollWidth - 1;
      setEnds((old) => (old.start === start && old.end === end ? old : { start, end }));
    };
    look();
    element.addEventListener("scroll", look, { passive: true });
    const resized = new ResizeObserver(look);
    resized.observe(element);
    return () => {
      element.removeEventListener("scroll", look);
      resized.disconnect();
    };
  }, [list, change]);
  return {
    ...ends,
    page: (direction: 1 | -1) => {
      const element = list.current;
      element?.scrollBy({
        left: direction * element.clientWidth * PAGE,
        behavior: stillPreferred() ? "auto" : "smooth",
      });
    },
  };
}
