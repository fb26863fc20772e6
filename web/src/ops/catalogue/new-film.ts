import type { Schemas } from "../types";

/** The form as it was typed. */
export interface Draft {
  number: string;
  title: string;
  koreanTitle: string;
  released: string;
  runtime: string;
  genres: string;
  people: string;
  language: string;
  overview: string;
  poster: string;
}

export const EMPTY: Draft = {
  number: "",
  title: "",
  koreanTitle: "",
  released: "",
  runtime: "",
  genres: "",
  people: "",
  language: "",
  overview: "",
  poster: "",
};

export type Mistake = "missing" | "number" | "runtime" | "language" | "poster" | "date";

const WHOLE = /^[1-9]\d{0,14}$/;
const LANGUAGE = /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$/;
const MOST_MINUTES = 100_000;

/** What is wrong with which field; empty where nothing is. */
export function mistakesOf(draft: Draft): Partial<Record<keyof Draft, Mistake>> {
  const found: Partial<Record<keyof Draft, Mistake>> = {};
  if (draft.title.trim() === "") found.title = "missing";
  if (!WHOLE.test(draft.number.trim())) found.number = draft.number.trim() === "" ? "missing" : "number";
  const runtime = draft.runtime.trim();
  if (runtime !== "" && !(WHOLE.test(runtime) && Number(runtime) <= MOST_MINUTES)) found.runtime = "runtime";
  if (draft.language.trim() !== "" && !LANGUAGE.test(draft.language.trim())) found.language = "language";
  const poster = draft.poster.trim();
  if (poster !== "" && !poster.startsWith("https://") && !poster.startsWith("/")) found.poster = "poster";
  if (draft.released !== "" && Number.isNaN(Date.parse(draft.released))) found.released = "date";
  return found;
}

/** What is sent; fields that were left empty are left out. */
export function filmOf(draft: Draft): Schemas["NewItem"] {
  const text = (value: string) => value.trim();
  const list = (value: string) => value.split(",").map(text).filter(Boolean);
  return {
    item_id: Number(text(draft.number)),
    title: text(draft.title),
    genres: list(draft.genres),
    people: list(draft.people),
    keywords: [],
    adult: false,
    texts: draft.koreanTitle.trim() === "" ? {} : { ko: { title: text(draft.koreanTitle) } },
    ...(draft.released === "" ? {} : { release_date: draft.released }),
    ...(text(draft.runtime) === "" ? {} : { runtime_minutes: Number(draft.runtime) }),
    ...(text(draft.language) === "" ? {} : { original_language: text(draft.language) }),
    ...(text(draft.overview) === "" ? {} : { overview: text(draft.overview) }),
    ...(text(draft.poster) === "" ? {} : { poster_path: text(draft.poster) }),
  };
}
