/** Where a key leads in a grid that is filled row by row; undefined where it is no key of the grid. */
export function stepIn(key: string, from: number, length: number, columns: number): number | undefined {
  const width = Math.max(1, columns);
  const within = (to: number) => (to >= 0 && to < length ? to : from);
  switch (key) {
    case "ArrowRight":
      return within(from + 1);
    case "ArrowLeft":
      return within(from - 1);
    case "ArrowDown":
      // From above a gap in the last row, to its last.
      return from + width < length ? from + width : onLastRow(from, length, width) ? from : length - 1;
    case "ArrowUp":
      return within(from - width);
    case "Home":
      return 0;
    case "End":
      return length - 1;
    default:
      return undefined;
  }
}

function onLastRow(place: number, length: number, columns: number): boolean {
  return Math.floor(place / columns) === Math.floor((length - 1) / columns);
}
