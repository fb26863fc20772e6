import { skipToken, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { putFeedback } from "../state/feedback";
import { api, body } from "./api";
import { keys } from "./keys";
import { useSession } from "./queries";

/** The viewer in numbers: what they did, and which genres they like. */
export function usePerson() {
  const userId = useSession().data?.user_id ?? null;
  return useQuery({
    queryKey: keys.person(userId ?? -1),
    queryFn:
      userId === null
        ? skipToken
        : ({ signal }) =>
            body(api().GET("/v1/users/{user_id}", { params: { path: { user_id: userId } }, signal })),
  });
}

/** Several films liked at once, by their event keys: all of them arrive, or none. */
export function useLikeAll() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({
      picked,
      requestId,
    }: {
      picked: ReadonlyMap<number, string>;
      requestId?: string;
    }) => {
      const events = Array.from(picked, ([item_id, event_key]) => ({
        event: "like" as const,
        item_id,
        event_key,
        ...(requestId === undefined ? {} : { request_id: requestId }),
      }));
      await body(api().POST("/v1/events", { body: { events } }));
    },
    onSuccess: (_, { picked }) => {
      for (const [itemId, like] of picked) putFeedback(itemId, { keys: { like } });
      // Not waited for: whoever comes next sees the new rows arrive.
      void client.invalidateQueries({ queryKey: keys.personal });
    },
  });
}
