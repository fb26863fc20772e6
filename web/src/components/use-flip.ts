import { useLayoutEffect, useRef, type RefObject } from "react";
import { stillPreferred } from "../lib/motion";

const MOVE: KeyframeAnimationOptions = { duration: 240, easing: "cubic-bezier(0.2, 0.7, 0.2, 1)" };

interface Place {
  element: HTMLElement;
  left: number;
  top: number;
  width: number;
}

/**
 * Lets the children marked `data-flip` glide to their new places when `change` does; new ones fade in, and of those
 * that left a picture fades out. Nothing moves for people who prefer that.
 */
export function useFlip(list: RefObject<HTMLElement | null>, change: unknown): void {
  const before = useRef(new Map<string, Place>());
  useLayoutEffect(() => {
    const parent = list.current;
    if (!parent) {
      before.current.clear();
      return;
    }
    const after = places(parent);
    if (before.current.size > 0 && !stillPreferred()) animate(parent, before.current, after);
    before.current = after;
  }, [list, change]);
}

function places(parent: HTMLElement): Map<string, Place> {
  const children = parent.querySelectorAll<HTMLElement>(":scope > [data-flip]");
  return new Map(
    Array.from(children, (element) => [
      element.dataset.flip ?? "",
      { element, left: element.offsetLeft, top: element.offsetTop, width: element.offsetWidth },
    ]),
  );
}

function animate(parent: HTMLElement, before: Map<string, Place>, after: Map<string, Place>): void {
  for (const [key, now] of after) {
    const then = before.get(key);
    if (then === undefined) {
      now.element.animate(
        [
          { opacity: 0, transform: "scale(0.92)" },
          { opacity: 1, transform: "none" },
        ],
        MOVE,
      );
    } else if (then.left !== now.left || then.top !== now.top) {
      const from = `translate(${then.left - now.left}px, ${then.top - now.top}px)`;
      now.element.animate([{ transform: from }, { transform: "none" }], MOVE);
    }
  }
  for (const [key, then] of before) if (!after.has(key)) fadeOut(parent, then);
}

function fadeOut(parent: HTMLElement, { element, left, top, width }: Place): void {
  const ghost = element.cloneNode(true) as HTMLElement;
  delete ghost.dataset.flip;
  ghost.inert = true;
  ghost.ariaHidden = "true";
  Object.assign(ghost.style, {
    position: "absolute",
    left: `${left}px`,
    top: `${top}px`,
    width: `${width}px`,
  });
  parent.append(ghost);
  const fading = ghost.animate([{ opacity: 1 }, { opacity: 0, transform: "scale(0.9)" }], MOVE);
  fading.onfinish = fading.oncancel = () => ghost.remove();
}
