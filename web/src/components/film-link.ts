import { createContext, useContext } from "react";
import type { Film } from "../lib/films";

/** What the address of a film carries along in the browser's history. */
export interface FilmLink {
  /** Of the list that the film was found in. */
  requestId?: string | undefined;
  /** What is known already: shown while the rest is on its way. */
  film?: Film;
  /** The film lies over the home page, with so many steps back to it. */
  depth?: number | undefined;
}

/** The depth that films opened from here have; undefined where a film is a page of its own. */
export const SheetDepth = createContext<number | undefined>(undefined);

export function useFilmLink(film: Film, requestId: string | undefined) {
  const depth = useContext(SheetDepth);
  const { item_id, title, year, genres, poster_url } = film;
  const state: FilmLink = {
    requestId,
    film: { item_id, title, year: year ?? null, genres: genres ?? [], poster_url: poster_url ?? null },
    depth,
  };
  return { to: `/films/${item_id}`, state, preventScrollReset: depth !== undefined };
}

export function filmLinkOf({ state }: { state: unknown }): FilmLink {
  return state ?? {};
}
