import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, operatorKey, opsApi, Problem, setOperatorKey } from "../../client/api";
import { opsKeys } from "../keys";

/** The key is valid, and of somebody else's role. */
export class NotOperator extends Error {}

/** Who the API takes the console for: on a fresh machine everybody who sits at it is an operator. */
export function useOperator() {
  return useQuery({ queryKey: opsKeys.session, queryFn: whoIsHere, staleTime: Infinity });
}

/** Tries a key; one that is wrong is not kept. */
export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (key: string) => {
      setOperatorKey(key);
      try {
        const { role } = await body(opsApi().GET("/v1/session"));
        if (role !== "operator") throw new NotOperator(role);
      } catch (error) {
        setOperatorKey(null);
        throw error;
      }
    },
    onSuccess: () => client.invalidateQueries({ queryKey: opsKeys.all }),
  });
}

/** Forgets the key, and all that was read with it. */
export function useSignOut() {
  const client = useQueryClient();
  return () => {
    setOperatorKey(null);
    client.removeQueries({
      predicate: ({ queryKey }) => queryKey[0] === "ops" && queryKey[1] !== "session",
    });
    void client.resetQueries({ queryKey: opsKeys.session });
  };
}

async function whoIsHere({ signal }: { signal: AbortSignal }): Promise<{ role: string; hasKey: boolean }> {
  const hasKey = operatorKey() !== null;
  try {
    const { role } = await body(opsApi().GET("/v1/session", { signal }));
    return { role, hasKey };
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      setOperatorKey(null);
      return { role: "anonymous", hasKey: false };
    }
    throw error;
  }
}
