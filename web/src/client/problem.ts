import type { components } from "./schema";

type ProblemBody = components["schemas"]["Problem"];

/** An answer of the API that is not a success, or none at all (`status` 0). */
export class Problem extends Error {
  readonly type: string;
  readonly status: number;
  /** What to do next, in the API's own words. */
  readonly fix: string | null;
  readonly errors: NonNullable<ProblemBody["errors"]>;
  readonly requestId: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(
    body: Pick<ProblemBody, "type" | "title" | "status" | "detail"> & Partial<ProblemBody>,
    requestId: string | null = null,
    retryAfterSeconds: number | null = null,
  ) {
    super(body.detail || body.title);
    this.name = "Problem";
    this.type = body.type;
    this.status = body.status;
    this.fix = body.fix ?? null;
    this.errors = body.errors ?? [];
    this.requestId = requestId;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether nothing answered: no network, or the service is down. */
  get unreachable(): boolean {
    return this.status === 0;
  }

  /** Whether the same request may succeed a moment later. */
  get retryable(): boolean {
    return this.unreachable || [408, 429, 502, 503, 504].includes(this.status);
  }

  get forbidden(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

export async function problemOf(answer: Response): Promise<Problem> {
  const requestId = answer.headers.get("X-Request-ID");
  const wait = Number(answer.headers.get("Retry-After"));
  const retryAfter = Number.isFinite(wait) && wait > 0 ? wait : null;
  if (answer.headers.get("Content-Type")?.includes("application/problem+json")) {
    return new Problem((await answer.json()) as ProblemBody, requestId, retryAfter);
  }
  // A proxy's page, not the API's answer.
  const title = answer.statusText || `HTTP ${answer.status}`;
  return new Problem(
    { type: "about:blank", title, status: answer.status, detail: "" },
    requestId,
    retryAfter,
  );
}

export function unreachable(requestId: string | null = null): Problem {
  return new Problem(
    { type: "/problems/unreachable", title: "Unreachable", status: 0, detail: "" },
    requestId,
  );
}
