import type { Film } from "../../lib/films";

export const PER_ROW = 14;
/** What the API gives at most. */
const MOST = 100;
/** A row with fewer films than this is left out, unless it is one of those that are always there. */
export const FEWEST = 4;

/** How many films to ask for: all rows above may have taken some, and still the row is to be full. */
export function askFor(place: number): number {
  return Math.min(MOST, PER_ROW * (place + 2));
}

export interface Supply {
  /** Undefined while they are on their way. */
  films: readonly Film[] | undefined;
  failed: boolean;
  leaveOut: (itemId: number) => boolean;
  length?: number;
}

/**
 * Shares films out so that none comes twice: from the top down, each row takes its first that are still free. A row
 * waits for those above it, so that nothing it shows is taken away a moment later.
 */
export function arrange(supplies: readonly Supply[]): (Film[] | undefined)[] {
  const taken = new Set<number>();
  let waiting = false;
  return supplies.map(({ films, failed, leaveOut, length = PER_ROW }) => {
    waiting ||= films === undefined && !failed;
    if (waiting || films === undefined) return undefined;
    const row: Film[] = [];
    for (const film of films) {
      if (row.length === length) break;
      if (taken.has(film.item_id) || leaveOut(film.item_id)) continue;
      taken.add(film.item_id);
      row.push(film);
    }
    return row;
  });
}

export interface Deed {
  item_id: number;
  title: string | null;
  event: string;
  rating: number | null;
}

export interface Seed {
  item_id: number;
  title: string;
  liked: boolean;
}

/** Points of ten from which on a film was liked. */
const GOOD = 6;

/** The films last watched or liked, newest first; those that were rated low or hidden lead nowhere. */
export function seedsOf(history: readonly Deed[], most: number): Seed[] {
  const bad = new Set(
    history
      .filter(({ event, rating }) => event === "hide" || (rating !== null && rating < GOOD))
      .map((deed) => deed.item_id),
  );
  const seeds = new Map<number, Seed>();
  for (const { item_id, title, event } of history) {
    if (seeds.has(item_id) || bad.has(item_id) || title === null) continue;
    if (event === "watch" || event === "like" || event === "rate")
      seeds.set(item_id, { item_id, title, liked: event === "like" });
    if (seeds.size === most) break;
  }
  return [...seeds.values()];
}

/** Genres for rows of their own: those the viewer likes most, then the largest; small ones cannot fill a row. */
export function genresFor(
  favourites: readonly string[],
  catalogue: readonly { genre: string; items: number }[],
  most: number,
): string[] {
  const fits = new Set(catalogue.filter(({ items }) => items >= 2 * PER_ROW).map(({ genre }) => genre));
  const wanted = [...favourites, ...catalogue.map(({ genre }) => genre)];
  return [...new Set(wanted)].filter((genre) => fits.has(genre)).slice(0, most);
}
