import {
  keepPreviousData,
  QueryClient,
  skipToken,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { useLang } from "../i18n";
import { forgetFeedback } from "../state/feedback";
import { api, body, Problem } from "./api";
import { keys } from "./keys";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
type QueryOf<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Query } } }
  ? Omit<NonNullable<Query>, "lang">
  : never;

export type RecommendationParams = QueryOf<"/v1/users/{user_id}/recommendations">;
export type PopularParams = QueryOf<"/v1/popular">;
export type SimilarParams = QueryOf<"/v1/items/{item_id}/similar">;
export type ItemsParams = Omit<QueryOf<"/v1/items">, "cursor">;

const FRESH_MS = 60_000;

export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // The browser's word on being online is not asked: see state/online.ts.
        networkMode: "always",
        staleTime: FRESH_MS,
        refetchOnWindowFocus: false,
        retry: (count, error) => count < 2 && error instanceof Problem && error.retryable,
        retryDelay: (count, error) =>
          error instanceof Problem && error.retryAfterSeconds !== null
            ? error.retryAfterSeconds * 1_000
            : 300 * 2 ** count,
      },
      mutations: { networkMode: "always" },
    },
  });
}

/** Who is here. A newcomer becomes a visitor, with a user of their own. */
export function useSession() {
  return useQuery({ queryKey: keys.session, queryFn: openSession, staleTime: Infinity });
}

/** Demo mode: become a virtual user, or with null oneself again. All that was personal is read anew. */
export function usePlay() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (userId: number | null) => body(api().POST("/v1/session", { body: { user_id: userId } })),
    onSuccess: async () => {
      forgetFeedback();
      client.removeQueries({ queryKey: keys.personal });
      await client.invalidateQueries({ queryKey: keys.session });
    },
  });
}

/** Forget the visitor for good: events, lists and the session. A new one begins, as somebody else. */
export function useErase() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (userId: number) => {
      await body(api().DELETE("/v1/users/{user_id}", { params: { path: { user_id: userId } } }));
      await body(api().POST("/v1/session", { body: {} }));
    },
    onSuccess: async () => {
      forgetFeedback();
      client.removeQueries({ queryKey: keys.personal });
      await client.invalidateQueries({ queryKey: keys.session });
    },
  });
}

export function useRecommendations(params: RecommendationParams = {}, enabled = true) {
  const lang = useLang();
  const userId = useSession().data?.user_id ?? null;
  return useQuery({
    queryKey: keys.recommendations(userId ?? -1, params, lang),
    queryFn:
      userId === null || !enabled
        ? skipToken
        : ({ signal }) =>
            body(
              api().GET("/v1/users/{user_id}/recommendations", {
                params: { path: { user_id: userId }, query: { ...params, lang } },
                signal,
              }),
            ),
    // A row keeps its films while a filter or the diversity changes, and moves when the new ones come.
    placeholderData: keepPreviousData,
  });
}

export function usePopular(params: PopularParams = {}, enabled = true) {
  const lang = useLang();
  return useQuery({
    queryKey: keys.popular(params, lang),
    queryFn: ({ signal }) =>
      body(api().GET("/v1/popular", { params: { query: { ...params, lang } }, signal })),
    placeholderData: keepPreviousData,
    enabled,
  });
}

export function useSimilar(itemId: number, params: SimilarParams = {}, enabled = true) {
  const lang = useLang();
  return useQuery({
    queryKey: keys.similar(itemId, params, lang),
    queryFn: ({ signal }) =>
      body(
        api().GET("/v1/items/{item_id}/similar", {
          params: { path: { item_id: itemId }, query: { ...params, lang } },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
    enabled,
  });
}

export function useLatest(k = 20, againMs: number | false = false) {
  const lang = useLang();
  return useQuery({
    queryKey: keys.latest(k, lang),
    queryFn: ({ signal }) =>
      body(api().GET("/latest-recommendations", { params: { query: { k, lang } }, signal })),
    // Only while the page is visible.
    refetchInterval: againMs,
  });
}

/** Search by title, or list by facts; pages follow by `fetchNextPage`. */
export function useItems(params: ItemsParams = {}, enabled = true) {
  const lang = useLang();
  return useInfiniteQuery({
    queryKey: keys.items(params, lang),
    queryFn: ({ pageParam, signal }) =>
      body(
        api().GET("/v1/items", {
          params: { query: { ...params, lang, ...(pageParam === null ? {} : { cursor: pageParam }) } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    enabled,
  });
}

export function useItem(itemId: number, enabled = true) {
  const lang = useLang();
  return useQuery({
    queryKey: keys.item(itemId, lang),
    queryFn: ({ signal }) =>
      body(
        api().GET("/v1/items/{item_id}", { params: { path: { item_id: itemId }, query: { lang } }, signal }),
      ),
    enabled,
  });
}

export function useHistory(limit = 50) {
  const lang = useLang();
  const userId = useSession().data?.user_id ?? null;
  return useInfiniteQuery({
    queryKey: keys.history(userId ?? -1, lang),
    queryFn:
      userId === null
        ? skipToken
        : ({ pageParam, signal }) =>
            body(
              api().GET("/v1/users/{user_id}/history", {
                params: {
                  path: { user_id: userId },
                  query: { limit, lang, ...(pageParam === null ? {} : { cursor: pageParam }) },
                },
                signal,
              }),
            ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
}

/** The films that the predictor knows. */
export function useContents() {
  const lang = useLang();
  return useQuery({
    queryKey: keys.contents(lang),
    queryFn: ({ signal }) => body(api().GET("/available-contents", { params: { query: { lang } }, signal })),
  });
}

/** The reference's predictor; its answer joins the latest recommendations. */
export function usePredict() {
  const lang = useLang();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (viewing: Omit<Schemas["PredictRequest"], "lang">) =>
      body(api().POST("/predict", { body: { ...viewing, lang } })),
    onSuccess: () => client.invalidateQueries({ queryKey: keys.personal }),
  });
}

/** Whom a demo may play. */
export function useUsers(limit = 20, enabled = true) {
  return useQuery({
    queryKey: keys.users(limit),
    queryFn: ({ signal }) => body(api().GET("/v1/users", { params: { query: { limit } }, signal })),
    enabled,
  });
}

export function useGenres() {
  return useQuery({
    queryKey: keys.genres,
    queryFn: ({ signal }) => body(api().GET("/v1/genres", { signal })),
    staleTime: 10 * FRESH_MS,
  });
}

async function openSession(): Promise<Schemas["SessionState"]> {
  const session = await body(api().GET("/v1/session"));
  if (session.user_id !== null) return session;
  const visitor = await body(api().POST("/v1/session", { body: {} }));
  return { ...session, user_id: visitor.user_id };
}
