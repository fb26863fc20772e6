import { skipToken, useQuery } from "@tanstack/react-query";
import { api, body } from "../../client/api";
import { keys } from "../../client/keys";
import { useSession } from "../../client/queries";

/** The viewer in numbers. */
export function useProfile() {
  const userId = useSession().data?.user_id ?? null;
  return useQuery({
    queryKey: [...keys.personal, "profile", userId],
    queryFn:
      userId === null
        ? skipToken
        : ({ signal }) =>
            body(api().GET("/v1/users/{user_id}", { params: { path: { user_id: userId } }, signal })),
  });
}
