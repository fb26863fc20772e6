import { QueryClientProvider } from "@tanstack/react-query";
import { render } from "@testing-library/react";
import type { ReactElement } from "react";
import { createMemoryRouter, RouterProvider } from "react-router";
import { createQueryClient } from "../client/queries";
import { startI18n } from "../i18n";

/** Renders within all that the site gives its pages; the language is that of `localStorage`, else English. */
export async function renderSite(element: ReactElement) {
  await startI18n();
  const queryClient = createQueryClient();
  queryClient.setDefaultOptions({ queries: { ...queryClient.getDefaultOptions().queries, retry: false } });
  const page = (next: ReactElement) => [{ path: "*", element: next }];
  const router = createMemoryRouter(page(element));
  return {
    queryClient,
    ...render(
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>,
    ),
  };
}

/** Answers of the API by method and path: `{"GET /v1/popular": {...}}`; a `Response` is given as it is. */
export function answering(answers: Record<string, unknown>) {
  const requests: { path: string; method: string; body: unknown; headers: Headers }[] = [];
  const fetcher = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    const path = new URL(request.url).pathname;
    const text = await request.clone().text();
    const body: unknown = text ? JSON.parse(text) : undefined;
    requests.push({ path, method: request.method, body, headers: request.headers });
    const answer = answers[`${request.method} ${path}`];
    if (answer instanceof Response) return answer.clone();
    return answer === undefined ? problem(404, "/problems/unknown-path") : Response.json(answer);
  };
  return { fetcher, requests };
}

export function problem(status: number, type: string, rest: object = {}): Response {
  return new Response(JSON.stringify({ type, title: "Refused", status, detail: "No.", ...rest }), {
    status,
    headers: { "Content-Type": "application/problem+json", "X-Request-ID": "r-1" },
  });
}
