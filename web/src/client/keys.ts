/** Keys of the query cache; a shorter key invalidates all that begin with it. */
export const keys = {
  session: ["session"] as const,
  /** All lists that depend on what the user did. */
  personal: ["personal"] as const,
  recommendations: (userId: number, params: object, lang: string) =>
    ["personal", "recommendations", userId, params, lang] as const,
  latest: (k: number, lang: string) => ["personal", "latest", k, lang] as const,
  history: (userId: number, lang: string) => ["personal", "history", userId, lang] as const,
  person: (userId: number) => ["personal", "person", userId] as const,
  popular: (params: object, lang: string) => ["popular", params, lang] as const,
  similar: (itemId: number, params: object, lang: string) => ["similar", itemId, params, lang] as const,
  items: (params: object, lang: string) => ["items", params, lang] as const,
  item: (itemId: number, lang: string) => ["item", itemId, lang] as const,
  contents: (lang: string) => ["contents", lang] as const,
  users: (limit: number) => ["users", limit] as const,
  genres: ["genres"] as const,
};
