/** Whether the viewer asked for less motion. */
export function stillPreferred(): boolean {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}
