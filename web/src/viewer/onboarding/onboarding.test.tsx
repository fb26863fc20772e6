import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { feedbackOf, forgetFeedback } from "../../state/feedback";
import { answering, problem, renderSite } from "../../test/render";
import { stepIn } from "./grid-steps";
import { Onboarding } from "./onboarding";

const items = Array.from({ length: 30 }, (_, index) => ({
  item_id: index + 1,
  title: `Film ${index + 1}`,
  year: 2000,
  genres: ["Drama"],
  poster_url: null,
}));
const popular = { request_id: "5f0c2a9e-8f57-4b9a-9f57-3d8a0c3d8f11", items };
const accepted = { accepted: 2, duplicates: 0, event_keys: ["a", "b"] };

function answer(events: unknown) {
  const { fetcher, requests } = answering({ "GET /v1/popular": popular, "POST /v1/events": events });
  vi.stubGlobal("fetch", fetcher);
  return () => requests.filter((request) => request.path === "/v1/events").map((request) => request.body);
}

const pick = async (title: string) => userEvent.click(await screen.findByRole("button", { name: title }));

beforeEach(() => forgetFeedback());

test("films that were picked arrive in one batch, and the viewer goes on", async () => {
  const sent = answer(accepted);
  const done = vi.fn();
  await renderSite(<Onboarding known onDone={done} />);
  expect(await screen.findByText("Nothing picked yet")).toBeInTheDocument();
  await pick("Film 2");
  await pick("Film 5");
  await pick("Film 7");
  await pick("Film 7");
  expect(screen.getByRole("button", { name: "Film 2" })).toHaveAttribute("aria-pressed", "true");
  expect(screen.getByRole("status", { name: "" })).toHaveTextContent("2 films picked");
  await userEvent.click(screen.getByRole("button", { name: "Show my films" }));
  await waitFor(() => expect(done).toHaveBeenCalledOnce());
  expect(sent()).toEqual([
    {
      events: [2, 5].map((item_id) => ({
        event: "like",
        item_id,
        event_key: expect.any(String) as string,
        request_id: popular.request_id,
      })),
    },
  ]);
  expect(feedbackOf(2)?.keys.like).toBeDefined();
});

test("nobody has to pick", async () => {
  const sent = answer(accepted);
  const done = vi.fn();
  await renderSite(<Onboarding known onDone={done} />);
  await screen.findByRole("button", { name: "Film 1" });
  expect(screen.getByRole("button", { name: "Show my films" })).toBeDisabled();
  await userEvent.click(screen.getByRole("button", { name: "Skip" }));
  expect(done).toHaveBeenCalledOnce();
  expect(sent()).toEqual([]);
});

test("what did not arrive stays picked and is sent again with the same keys", async () => {
  const sent = answer(problem(503, "/problems/busy"));
  const done = vi.fn();
  await renderSite(<Onboarding known onDone={done} />);
  await pick("Film 3");
  const finish = screen.getByRole("button", { name: "Show my films" });
  await userEvent.click(finish);
  expect(await screen.findByText("That did not arrive. Please try again.")).toBeInTheDocument();
  await userEvent.click(finish);
  await waitFor(() => expect(sent()).toHaveLength(2));
  expect(sent()[1]).toEqual(sent()[0]);
  expect(done).not.toHaveBeenCalled();
});

test("the grid is one Tab stop, and arrows move along it", async () => {
  answer(accepted);
  await renderSite(<Onboarding known onDone={vi.fn()} />);
  const first = await screen.findByRole("button", { name: "Film 1" });
  first.focus();
  await userEvent.keyboard("{ArrowRight} ");
  const second = screen.getByRole("button", { name: "Film 2" });
  expect(second).toHaveFocus();
  expect(second).toHaveAttribute("aria-pressed", "true");
  expect(first.tabIndex).toBe(-1);
});

test.each([
  ["ArrowDown", 1, 5],
  ["ArrowDown", 7, 9],
  ["ArrowDown", 8, 8],
  ["ArrowUp", 5, 1],
  ["ArrowUp", 2, 2],
  ["ArrowRight", 9, 9],
  ["Home", 6, 0],
  ["End", 6, 9],
  ["a", 6, undefined],
])("%s leads from %i to %s in rows of four", (key, from, to) => {
  expect(stepIn(key, from, 10, 4)).toBe(to);
});
