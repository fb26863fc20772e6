import { useMemo, useState } from "react";
import { usePerson } from "../../client/person";
import {
  useGenres,
  useHistory,
  useLatest,
  usePopular,
  useRecommendations,
  useSimilar,
} from "../../client/queries";
import { filmOf, type Film } from "../../lib/films";
import { useActedOn } from "../../state/feedback";
import { arrange, askFor, genresFor, PER_ROW, seedsOf, type Seed, type Supply } from "./rows";
import { paramsOf, useTaste } from "./taste";

const LATEST_MS = 5_000;
const MOST_GENRES = 3;
const MOST_SEEDS = 6;

/** A film of which there is more to show than a card. */
export interface Feature extends Film {
  overview?: string | null;
  backdrop_url?: string | null;
  runtime_minutes?: number | null;
}

export interface Row {
  films: Film[] | undefined;
  requestId: string | undefined;
  error: Error | null;
  retry: () => unknown;
}

/** What the API answered to one of the rows. */
interface Answer {
  data: { items?: Film[]; request_id?: string } | undefined;
  error: Error | null;
  refetch: () => unknown;
}

/** All of the home page, each film once. `deep`: the viewer came so far down that the last rows are needed. */
export function useHome(deep: boolean) {
  const taste = useTaste();
  const actedOn = useActedOn();
  const deeds = useDeeds();
  const candidates = useMemo(() => seedsOf(deeds, MOST_SEEDS), [deeds]);
  const genres = useFavourites();

  const forYou = useRecommendations({ ...paramsOf(taste), k: askFor(0) });
  const latest = useLatest(askFor(1), LATEST_MS);
  const like0 = useSimilar(candidates[0]?.item_id ?? 0, { k: askFor(2) }, candidates.length > 0);
  const seeds = useMemo(() => apart(candidates, like0.data?.items), [candidates, like0.data]);
  const like1 = useSimilar(seeds[1]?.item_id ?? 0, { k: askFor(3) }, seeds.length > 1 && like0.isFetched);
  const trending = usePopular({ k: askFor(4) });
  const genre0 = useGenreRow(genres[0], 5, deep);
  const genre1 = useGenreRow(genres[1], 6, deep);
  const genre2 = useGenreRow(genres[2], 7, deep);

  const recent = useMemo(() => latest.data?.recent_recommendations.map(filmOf), [latest.data]);
  const personal = forYou.data?.items as Feature[] | undefined;
  const hero = useHero(personal, actedOn);
  const answers = [like0, like1, trending, genre0, genre1, genre2] as const;
  const [films0, films1, films2, films3, films4, films5] = answers.map(({ data }) => data?.items);
  const failures = [forYou, latest, ...answers].map(({ error }) => (error ? "1" : "0")).join("");

  const lists = useMemo(() => {
    const did = (...events: string[]) =>
      new Set(deeds.filter(({ event }) => events.includes(event)).map(({ item_id }) => item_id));
    const hidden = did("hide");
    const known = did("watch", "rate", "like", "hide");
    const isActedOn = (id: number) => actedOn.has(id);
    const isHidden = (id: number) => hidden.has(id) || actedOn.get(id)?.keys.hide !== undefined;
    const isKnown = (id: number) => known.has(id) || actedOn.has(id);
    const supplies: Omit<Supply, "failed">[] = [
      // Recommendations leave out by themselves what is known; what was done a moment ago is left out here.
      { films: personal, leaveOut: (id) => isActedOn(id) || id === hero?.item_id },
      { films: recent, leaveOut: (id) => isHidden(id) || id === hero?.item_id },
      { films: films0 ?? (seeds.length > 0 ? undefined : []), leaveOut: isKnown },
      { films: films1 ?? (seeds.length > 1 ? undefined : []), leaveOut: isKnown },
      { films: films2, leaveOut: isHidden },
      ...[films3, films4, films5].map((films) => ({ films, leaveOut: isActedOn })),
    ];
    const facts = new Map(supplies.flatMap(({ films = [] }) => films.map((film) => [film.item_id, film])));
    return arrange(
      supplies.map((supply, place) => ({
        ...supply,
        failed: failures[place] === "1",
        leaveOut: (id) => id === hero?.item_id || supply.leaveOut(id),
      })),
    ).map((row) => row?.map((film) => ({ ...facts.get(film.item_id), ...film })));
  }, [
    personal,
    recent,
    films0,
    films1,
    films2,
    films3,
    films4,
    films5,
    failures,
    seeds,
    deeds,
    actedOn,
    hero,
  ]);

  const row = (place: number, { data, error, refetch }: Answer): Row => ({
    films: lists[place],
    requestId: data?.request_id,
    error,
    retry: refetch,
  });
  return {
    hero: { film: hero, requestId: forYou.data?.request_id, pending: forYou.isPending },
    // Not by the tier alone: a service under load answers with what is popular, too.
    isNew: forYou.data?.tier === "popular" && deeds.length === 0,
    forYou: row(0, forYou),
    latest: row(1, { ...latest, data: latest.data && {} }),
    because: [like0, like1].slice(0, seeds.length).map((answer, place) => ({
      seed: seedOf(answer.data?.item_id, seeds, place),
      ...row(2 + place, answer),
    })),
    trending: row(4, trending),
    genres: [genre0, genre1, genre2]
      .slice(0, genres.length)
      .map((answer, place) => ({ genre: genres[place] ?? "", ...row(5 + place, answer) })),
  };
}

function useGenreRow(genre: string | undefined, place: number, enabled: boolean) {
  return useRecommendations({ genre: [genre ?? ""], k: askFor(place) }, enabled && genre !== undefined);
}

function useFavourites(): string[] {
  const person = usePerson();
  const catalogue = useGenres();
  const favourites = person.data?.favourite_genres;
  const all = catalogue.data?.genres;
  const settled = favourites !== undefined || person.error !== null;
  return useMemo(
    () => (settled && all ? genresFor(favourites ?? [], all, MOST_GENRES) : []),
    [settled, favourites, all],
  );
}

function useDeeds() {
  const history = useHistory();
  return useMemo(() => history.data?.pages.flatMap((page) => page.events) ?? [], [history.data]);
}

/** The film at the top: it stays while it is recommended at all, so that the page is calm. */
function useHero(films: Feature[] | undefined, actedOn: ReadonlyMap<number, unknown>): Feature | undefined {
  const [shown, setShown] = useState<number>();
  const free = films?.filter((film) => !actedOn.has(film.item_id));
  const hero =
    free?.find((film) => film.item_id === shown) ?? free?.find((film) => film.overview) ?? free?.[0];
  if (hero !== undefined && hero.item_id !== shown) setShown(hero.item_id);
  return hero;
}

/** Two films that are not much like each other: else both rows would show the same kind. */
function apart(candidates: readonly Seed[], likeFirst: readonly Film[] | undefined): Seed[] {
  const near = new Set(likeFirst?.slice(0, PER_ROW).map((film) => film.item_id));
  const [first, ...rest] = candidates;
  return [first, rest.find((seed) => !near.has(seed.item_id)) ?? rest[0]].filter(
    (seed) => seed !== undefined,
  );
}

/** While films like another one are on their way, the row goes on to show those of the one before: and says so. */
function seedOf(answered: number | undefined, seeds: readonly Seed[], place: number): Seed | undefined {
  return seeds.find((seed) => seed.item_id === answered) ?? seeds[place];
}
