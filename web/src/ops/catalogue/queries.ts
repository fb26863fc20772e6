import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { body, opsApi } from "../../client/api";
import { useLang } from "../../i18n";
import { opsKeys } from "../keys";
import type { Schemas } from "../types";

const PAGE = 24;

export function useCatalogue(query: string) {
  const lang = useLang();
  return useInfiniteQuery({
    queryKey: opsKeys.items(query, lang),
    queryFn: ({ pageParam, signal }) =>
      body(
        opsApi().GET("/v1/items", {
          params: {
            query: {
              limit: PAGE,
              lang,
              ...(query === "" ? {} : { q: query }),
              ...(pageParam === null ? {} : { cursor: pageParam }),
            },
          },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
  });
}

export function useFilm(itemId: number | null) {
  const lang = useLang();
  return useQuery({
    queryKey: opsKeys.item(itemId ?? -1, lang),
    queryFn: ({ signal }) =>
      body(
        opsApi().GET("/v1/items/{item_id}", {
          params: { path: { item_id: itemId ?? -1 }, query: { lang } },
          signal,
        }),
      ),
    enabled: itemId !== null,
  });
}

/** Pins, blocks or boosts a film; lists of recommendations follow within seconds. */
export function useChoose(itemId: number) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (choice: Schemas["EditorialChoice"]) =>
      body(opsApi().PATCH("/v1/items/{item_id}", { params: { path: { item_id: itemId } }, body: choice })),
    onSettled: () => client.invalidateQueries({ queryKey: opsKeys.catalogue }),
  });
}

export function useAddFilm() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (film: Schemas["NewItem"]) => body(opsApi().PUT("/v1/items", { body: { items: [film] } })),
    onSuccess: () => client.invalidateQueries({ queryKey: opsKeys.catalogue }),
  });
}
