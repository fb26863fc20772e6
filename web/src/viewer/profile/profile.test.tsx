import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import type * as Config from "../../config";
import { Toaster } from "../../components/toast";
import { answering, problem, renderSite } from "../../test/render";
import { ActingBanner } from "./acting-banner";
import { DemoDialog } from "./demo-dialog";
import { ProfilePage } from "./profile-page";

vi.mock("../../config", async (original) => {
  const module = await original<typeof Config>();
  return { ...module, config: () => ({ ...module.config(), demo: true }) };
});

const ME = 2 ** 52;
const event = (item_id: number, event_key: string | null) => ({
  item_id,
  title: `Film ${item_id}`,
  poster_url: null,
  event: "like",
  rating: null,
  watch_seconds: null,
  occurred_at: "2026-11-22T20:15:00Z",
  event_key,
});

async function open(userId: number, more: Record<string, unknown> = {}) {
  const { fetcher, requests } = answering({
    "GET /v1/session": { user_id: userId, role: "visitor", demo: true },
    [`GET /v1/users/${userId}`]: { events: { like: 2 }, favourite_genres: ["Drama"], first_event_at: null },
    [`GET /v1/users/${userId}/history`]: { events: [event(1, "k1"), event(2, null)], next_cursor: null },
    "GET /v1/users": { users: [{ user_id: 3, kind: "virtual", events: 9, favourite_genres: ["War"] }] },
    ...more,
  });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(
    <>
      <ActingBanner />
      <ProfilePage />
      <DemoDialog onClose={() => undefined} />
      <Toaster />
    </>,
  );
  return requests;
}

const sent = (requests: Awaited<ReturnType<typeof open>>, method: string) =>
  requests.filter((request) => request.method === method).map(({ path, body }) => ({ path, body }));

beforeEach(() => localStorage.clear());

test("an event of one's own can be taken back; one of the data cannot", async () => {
  const requests = await open(ME, { "POST /v1/events": { accepted: 1 } });
  await screen.findByRole("link", { name: "Film 2" });
  expect(screen.queryByRole("button", { name: "Undo: Film 2" })).not.toBeInTheDocument();
  await userEvent.click(screen.getByRole("button", { name: "Undo: Film 1" }));
  expect(screen.queryByRole("link", { name: "Film 1" })).not.toBeInTheDocument();
  await waitFor(() =>
    expect(sent(requests, "POST")[0]?.body).toMatchObject({ event: "undo", revokes: "k1" }),
  );
});

test("who is to be forgotten is asked first, and begins anew", async () => {
  const requests = await open(ME, {
    [`DELETE /v1/users/${ME}`]: { erased: {} },
    "POST /v1/session": { user_id: ME + 1 },
  });
  await userEvent.click(await screen.findByRole("button", { name: "Forget me" }));
  expect(sent(requests, "DELETE")).toEqual([]);
  const dialog = screen.getByRole("dialog", { name: "Forget everything about you?" });
  await userEvent.click(within(dialog).getByRole("button", { name: "Forget me for good" }));
  await waitFor(() => expect(sent(requests, "POST")).toEqual([{ path: "/v1/session", body: {} }]));
  expect(sent(requests, "DELETE")).toEqual([{ path: `/v1/users/${ME}`, body: undefined }]);
});

test("a demo user is played, named on every page, and left again", async () => {
  const requests = await open(3, { "POST /v1/session": { user_id: ME } });
  const banner = await screen.findByRole("complementary", { name: "Demo user" });
  expect(banner).toHaveTextContent("You are acting as user 3");
  expect(screen.queryByRole("button", { name: "Forget me" })).not.toBeInTheDocument();
  await userEvent.click(within(banner).getByRole("button", { name: "Back to myself" }));
  await waitFor(() => expect(sent(requests, "POST")[0]?.body).toEqual({ user_id: null }));
});

test("a user that cannot be played is said at the field", async () => {
  const nobody = problem(404, "/problems/not-found", { detail: "There is no user 99.", fix: "Try 3." });
  await open(ME, { "POST /v1/session": nobody });
  const field = screen.getByRole("textbox", { name: "User number" });
  await userEvent.type(field, "99{Enter}");
  await waitFor(() => expect(field).toHaveAccessibleDescription("There is no user 99. Try 3."));
});
