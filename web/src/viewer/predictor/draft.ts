import { Problem } from "../../client/api";
import type { FieldFault } from "../../components/field";

/** What the form holds, as it is typed. */
export interface Draft {
  contentId: number | null;
  minutes: string;
  rating: string;
  popularity: string;
}

export type Field = keyof Draft;
export type Faults = { [F in Field]?: FieldFault | undefined };

export interface Viewing {
  content_id: number;
  watch_seconds: number;
  rating: number;
  popularity: number;
}

export const MOST = { minutes: 166_666, rating: 10, popularity: 1e9 } as const;

/** Fields of the request and the places in the form where their errors are shown. */
const PLACES: Record<string, Field> = {
  "body.content_id": "contentId",
  "body.watch_seconds": "minutes",
  "body.rating": "rating",
  "body.popularity": "popularity",
};

/** A number as typed, also with a decimal comma; null where it is none or out of its range. */
export function numberOf(text: string, most: number): number | null {
  const value = Number(text.trim().replace(",", "."));
  return text.trim() !== "" && Number.isFinite(value) && value >= 0 && value <= most ? value : null;
}

/** What is asked, or the fields that cannot be asked so. */
export function viewingOf(draft: Draft): { viewing: Viewing } | { wrong: Field[] } {
  const minutes = numberOf(draft.minutes, MOST.minutes);
  const rating = numberOf(draft.rating, MOST.rating);
  const popularity = numberOf(draft.popularity, MOST.popularity);
  const { contentId } = draft;
  if (contentId !== null && minutes !== null && rating !== null && popularity !== null)
    return {
      viewing: { content_id: contentId, watch_seconds: Math.round(minutes * 60), rating, popularity },
    };
  const values = { contentId, minutes, rating, popularity };
  return { wrong: (Object.keys(values) as Field[]).filter((field) => values[field] === null) };
}

/** What the API says of single fields, where they are in the form. */
export function faultsOf(error: Error | null): Faults {
  if (!(error instanceof Problem)) return {};
  if (error.type.endsWith("/unknown-content"))
    return { contentId: { message: error.message, fix: error.fix } };
  const faults: Faults = {};
  for (const { field, message } of error.errors) {
    const place = PLACES[field];
    if (place !== undefined) faults[place] ??= { message, fix: error.fix };
  }
  return faults;
}
