import { createStore, useStore } from "../../lib/store";
import type { RecommendationParams } from "../../client/queries";
import { preferences } from "../../state/preferences";

/** What "For you" is to consist of, besides what the viewer likes. */
export interface Taste {
  /** 0: the best by score; 1: as varied as can be. */
  diversity: number;
  genres: readonly string[];
  yearFrom: number | null;
  yearTo: number | null;
  language: string | null;
  /** In minutes. */
  maxRuntime: number | null;
}

export const ANY: Taste = {
  diversity: 0,
  genres: [],
  yearFrom: null,
  yearTo: null,
  language: null,
  maxRuntime: null,
};

const KEPT = "marquee.taste";
const taste = createStore<Taste>(kept());

export function useTaste(): Taste {
  return useStore(taste);
}

/** Kept for this tab: it is a mood, not a setting. */
export function setTaste(change: Partial<Taste>): void {
  taste.set((now) => ordered({ ...now, ...change }));
  sessionStorage.setItem(KEPT, JSON.stringify(taste.get()));
}

export function filtersOf({ genres, yearFrom, yearTo, language, maxRuntime }: Taste): number {
  return [genres.length > 0, yearFrom ?? yearTo, language, maxRuntime].filter(Boolean).length;
}

export function paramsOf(wanted: Taste): RecommendationParams {
  return {
    ...(wanted.diversity > 0 ? { diversity: wanted.diversity } : {}),
    ...(wanted.genres.length > 0 ? { genre: [...wanted.genres] } : {}),
    ...(wanted.yearFrom === null ? {} : { year_from: wanted.yearFrom }),
    ...(wanted.yearTo === null ? {} : { year_to: wanted.yearTo }),
    ...(wanted.language === null ? {} : { language: [wanted.language] }),
    ...(wanted.maxRuntime === null ? {} : { max_runtime: wanted.maxRuntime }),
  };
}

function ordered(wanted: Taste): Taste {
  const { yearFrom, yearTo } = wanted;
  if (yearFrom === null || yearTo === null || yearFrom <= yearTo) return wanted;
  return { ...wanted, yearFrom: yearTo, yearTo: yearFrom };
}

function kept(): Taste {
  try {
    return {
      ...ANY,
      diversity: preferences().diversity,
      ...(JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") as Partial<Taste>),
    };
  } catch {
    return ANY;
  }
}
