import type { ItemsParams } from "../../client/queries";

export const SORTS = ["relevance", "popularity", "newest", "title"] as const;
export type Sort = (typeof SORTS)[number];

export interface Filters {
  q: string;
  genres: string[];
  from: number | null;
  to: number | null;
  /** Code of the original language. */
  language: string | null;
  /** Longest, in minutes. */
  runtime: number | null;
  sort: Sort;
}

export const NO_FILTERS: Omit<Filters, "q"> = {
  genres: [],
  from: null,
  to: null,
  language: null,
  runtime: null,
  sort: "relevance",
};

const PER_PAGE = 24;

/** The filters that an address names; what makes no sense in it is left out. */
export function readFilters(address: URLSearchParams): Filters {
  const sort = address.get("sort");
  const language = address.get("language");
  return {
    q: address.get("q") ?? "",
    genres: [...new Set(address.getAll("genre").filter(Boolean))],
    from: number(address.get("from"), 9_999),
    to: number(address.get("to"), 9_999),
    language: language !== null && /^[a-z]{2,3}$/.test(language) ? language : null,
    runtime: number(address.get("runtime"), 100_000),
    sort: SORTS.find((known) => known === sort) ?? "relevance",
  };
}

/** The address of filters, without those that choose nothing. */
export function writeFilters({ q, genres, sort, ...rest }: Filters): URLSearchParams {
  const address = new URLSearchParams(q === "" ? {} : { q });
  for (const genre of genres) address.append("genre", genre);
  for (const [name, value] of Object.entries(rest)) if (value !== null) address.set(name, String(value));
  if (sort !== "relevance") address.set("sort", sort);
  return address;
}

/** What the API is asked. */
export function asQuestion({ q, genres, from, to, language, runtime, sort }: Filters): ItemsParams {
  // Years the wrong way round are meant the right way.
  const [first, last] = from !== null && to !== null && from > to ? [to, from] : [from, to];
  return {
    limit: PER_PAGE,
    sort,
    ...(q.trim() === "" ? {} : { q: q.trim() }),
    ...(genres.length === 0 ? {} : { genre: genres }),
    ...(first === null ? {} : { year_from: first }),
    ...(last === null ? {} : { year_to: last }),
    ...(language === null ? {} : { language: [language] }),
    ...(runtime === null ? {} : { max_runtime: runtime }),
  };
}

/** How many filters narrow the list; the order does not. */
export function countFilters({ genres, from, to, language, runtime }: Filters): number {
  return genres.length + [from ?? to, language, runtime].filter((value) => value !== null).length;
}

function number(text: string | null, most: number): number | null {
  return text !== null && /^\d{1,6}$/.test(text) && Number(text) >= 1 && Number(text) <= most
    ? Number(text)
    : null;
}
