import { useSession } from "../../client/queries";

/** Numbers of visitors begin here (`FIRST_VISITOR` of the API); smaller ones are of the data, and played. */
const FIRST_VISITOR = 2 ** 52;

/** The demo user whom the visitor plays; null who is themselves, and while that is not known. */
export function useActing(): number | null {
  const userId = useSession().data?.user_id ?? null;
  return userId !== null && userId < FIRST_VISITOR ? userId : null;
}
