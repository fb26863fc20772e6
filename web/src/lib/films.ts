import { config } from "../config";

/** What a card shows. Answers of the API carry more; what they lack is left out. */
export interface Film {
  item_id: number;
  title: string;
  year?: number | null;
  genres?: string[];
  poster_url?: string | null;
}

/** The predictor's cards name the same things differently. */
export function filmOf(card: { content_id: number; title: string; poster_url: string | null }): Film {
  return { item_id: card.content_id, title: card.title, poster_url: card.poster_url };
}

const WIDTHS = [154, 185, 342, 500];
const TMDB_IMAGE = /\/t\/p\/(?:w\d+|original)(\/[^/?#]+)$/;

/** `src` and `srcset` of a poster; only TMDB's have several sizes. */
export function posterSources(url: string): { src: string; srcSet?: string } {
  const file = TMDB_IMAGE.exec(url)?.[1];
  if (file === undefined) return { src: url };
  const sized = (width: number) => `${config().images}/w${width}${file}`;
  return { src: sized(342), srcSet: WIDTHS.map((width) => `${sized(width)} ${width}w`).join(", ") };
}
