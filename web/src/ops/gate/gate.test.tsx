import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { operatorKey } from "../../client/api";
import { answering, problem, renderSite } from "../../test/render";
import "../locales";
import { Gate } from "./gate";
import { useSignOut } from "./session";

const roles: Record<string, string> = { "Bearer op-1": "operator", "Bearer view-1": "viewer" };

/** Knows two keys; without one nobody is an operator. */
function api(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const key = new Request(input, init).headers.get("Authorization");
  if (key === null) return Promise.resolve(Response.json({ user_id: null, role: "anonymous", demo: false }));
  const role = roles[key];
  return Promise.resolve(
    role === undefined
      ? problem(401, "/problems/unauthorized")
      : Response.json({ user_id: null, role, demo: false }),
  );
}

function Inside() {
  const signOut = useSignOut();
  return <button onClick={signOut}>leave</button>;
}

const open = () =>
  renderSite(
    <Gate>
      <Inside />
    </Gate>,
  );

async function enter(key: string) {
  await userEvent.type(await screen.findByLabelText("API key"), key);
  await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
}

beforeEach(() => {
  vi.stubGlobal("fetch", api);
});

test("a wrong key is refused in words and not kept", async () => {
  await open();
  await enter("nonsense");
  expect(await screen.findByText(/not valid/)).toBeInTheDocument();
  expect(screen.getByLabelText("API key")).toHaveAttribute("aria-invalid", "true");
  expect(operatorKey()).toBeNull();
});

test("a key of another role is told its role", async () => {
  await open();
  await enter("view-1");
  expect(await screen.findByText(/has the role viewer/)).toBeInTheDocument();
  expect(operatorKey()).toBeNull();
});

test("an operator's key opens the console for this tab, and signing out closes it", async () => {
  await open();
  await enter("op-1");
  const leave = await screen.findByRole("button", { name: "leave" });
  expect(sessionStorage.getItem("marquee.operator-key")).toBe("op-1");
  await userEvent.click(leave);
  expect(await screen.findByLabelText("API key")).toBeInTheDocument();
  expect(operatorKey()).toBeNull();
});

test("a machine that is trusted needs no key", async () => {
  const { fetcher } = answering({ "GET /v1/session": { user_id: null, role: "operator", demo: false } });
  vi.stubGlobal("fetch", fetcher);
  await open();
  expect(await screen.findByRole("button", { name: "leave" })).toBeInTheDocument();
});
