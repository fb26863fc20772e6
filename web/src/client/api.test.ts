import { expect, test, vi } from "vitest";
import { answering, problem } from "../test/render";
import { api, body, opsApi, Problem, setOperatorKey } from "./api";

test("an answer's body is returned and the request carries an id", async () => {
  const { fetcher, requests } = answering({ "GET /livez": { status: "alive" } });
  vi.stubGlobal("fetch", fetcher);
  expect(await body(api().GET("/livez"))).toEqual({ status: "alive" });
  expect(requests[0]?.headers.get("X-Request-ID")).toMatch(/^[0-9a-f-]{36}$/);
});

test("a problem is thrown with its fix and the id of the request", async () => {
  const refused = problem(404, "/problems/unknown-item", { fix: "GET /v1/items lists them." });
  vi.stubGlobal("fetch", answering({ "GET /livez": refused }).fetcher);
  const error: unknown = await body(api().GET("/livez")).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(Problem);
  expect(error).toMatchObject({
    status: 404,
    type: "/problems/unknown-item",
    fix: "GET /v1/items lists them.",
    requestId: "r-1",
    retryable: false,
  });
});

test("a service that does not answer is a retryable problem", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  await expect(body(api().GET("/livez"))).rejects.toMatchObject({ unreachable: true, retryable: true });
});

test("only the console sends the operator's key", async () => {
  const { fetcher, requests } = answering({ "GET /livez": { status: "alive" } });
  vi.stubGlobal("fetch", fetcher);
  setOperatorKey("k-1");
  await body(opsApi().GET("/livez"));
  await body(api().GET("/livez"));
  expect(requests.map((request) => request.headers.get("Authorization"))).toEqual(["Bearer k-1", null]);
});
