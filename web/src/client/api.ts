import createClient, { type Client } from "openapi-fetch";
import { config } from "../config";
import { newId } from "../lib/ids";
import { markReachable, markUnreachable } from "../state/online";
import { problemOf, unreachable } from "./problem";
import type { paths } from "./schema";

export { Problem } from "./problem";

const KEY = "marquee.operator-key";

let viewerClient: Client<paths> | undefined;
let operatorClient: Client<paths> | undefined;

/** The API as a viewer sees it: known by the session cookie. Rejects with `Problem`. */
export function api(): Client<paths> {
  return (viewerClient ??= client((request) => send(request)));
}

/** The API as the console sees it: with the operator's key, if one was given. Rejects with `Problem`. */
export function opsApi(): Client<paths> {
  return (operatorClient ??= client((request) => {
    const key = operatorKey();
    if (key !== null) request.headers.set("Authorization", `Bearer ${key}`);
    return send(request);
  }));
}

/** The body of a successful answer: `const page = await body(api().GET("/v1/items"))`. */
export async function body<T>(answer: Promise<{ data?: T }>): Promise<NonNullable<T>> {
  const { data } = await answer;
  // Refusals were thrown before; only 204 has no body, and callers do not ask for that one.
  return data as NonNullable<T>;
}

export function operatorKey(): string | null {
  return sessionStorage.getItem(KEY);
}

/** Keeps the key for this tab only, until it is closed. */
export function setOperatorKey(key: string | null): void {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** Whether the API answers at all. */
export async function answers(): Promise<boolean> {
  try {
    return (await fetch(`${origin()}/livez`, { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

function client(fetcher: (request: Request) => Promise<Response>): Client<paths> {
  return createClient<paths>({ baseUrl: origin(), credentials: "same-origin", fetch: fetcher });
}

function origin(): string {
  return config().api || window.location.origin;
}

async function send(request: Request): Promise<Response> {
  const requestId = newId();
  request.headers.set("X-Request-ID", requestId);
  let answer: Response;
  try {
    answer = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    markUnreachable();
    throw unreachable(requestId);
  }
  // The development proxy answers 502 for an API that is down; so do proxies in front of a real one.
  if (answer.status === 502 || answer.status === 504) markUnreachable();
  else markReachable();
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}
