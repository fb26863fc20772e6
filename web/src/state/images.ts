// Without a network every poster would fail on its own, each with a line in the browser's console. After a few in a
// row the drawn cards stay for a while.
const FAILURES = 4;
const PAUSE_MS = 60_000;

let failed = 0;
let lastFailure = 0;

export function imageFailed(): void {
  failed += 1;
  lastFailure = Date.now();
}

export function imageLoaded(): void {
  failed = 0;
}

export function imagesWorthTrying(): boolean {
  return failed < FAILURES || Date.now() - lastFailure > PAUSE_MS;
}
