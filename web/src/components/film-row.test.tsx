import { fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { Problem } from "../client/api";
import { forgetFeedback, useActedOn } from "../state/feedback";
import { answering, problem, renderSite } from "../test/render";
import { FilmRow } from "./film-row";
import { Toaster } from "./toast";

const films = [1, 2, 3].map((item_id) => ({
  item_id,
  title: `Film ${item_id}`,
  year: 2000,
  genres: ["Drama"],
}));

function Unseen() {
  const actedOn = useActedOn();
  return (
    <>
      <FilmRow
        title="For you"
        films={films.filter((film) => !actedOn.has(film.item_id))}
        requestId="list-1"
      />
      <Toaster />
    </>
  );
}

beforeEach(() => forgetFeedback());

test("films on their way are announced as busy and take their place", async () => {
  await renderSite(<FilmRow title="For you" films={undefined} />);
  expect(screen.getByRole("region", { name: "For you" })).toHaveAttribute("aria-busy", "true");
});

test("the row is one Tab stop and arrows move within", async () => {
  await renderSite(<FilmRow title="For you" films={films} />);
  const links = screen.getAllByRole("link");
  expect(links.map((link) => link.tabIndex)).toEqual([0, -1, -1]);
  links[0]?.focus();
  await userEvent.keyboard("{ArrowRight}");
  expect(links[1]).toHaveFocus();
  await userEvent.keyboard("{End}");
  expect(links[2]).toHaveFocus();
  expect(links.map((link) => link.tabIndex)).toEqual([-1, -1, 0]);
});

test("a film that is hidden leaves at once and comes back by undo", async () => {
  const { fetcher, requests } = answering({
    "POST /v1/events": { accepted: 1, duplicates: 0, event_keys: ["k"] },
  });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<Unseen />);
  await userEvent.click(screen.getByRole("button", { name: "Not interested in Film 2" }));
  expect(screen.queryByText("Film 2", { selector: "a span" })).not.toBeInTheDocument();
  const undo = await screen.findByRole("button", { name: "Undo" });
  await userEvent.click(undo);
  const row = screen.getByRole("region", { name: "For you" });
  expect(within(row).getAllByRole("link")).toHaveLength(3);
  await waitFor(() => expect(requests).toHaveLength(2));
  const [hide, revoke] = requests.map((request) => request.body as Record<string, unknown>);
  expect(hide).toMatchObject({ event: "hide", item_id: 2, request_id: "list-1" });
  expect(revoke).toMatchObject({ event: "undo", revokes: hide?.["event_key"] });
});

test("what the API refuses is taken back and said", async () => {
  const refused = problem(404, "/problems/unknown-item", { fix: "Look again." });
  vi.stubGlobal("fetch", answering({ "POST /v1/events": refused }).fetcher);
  await renderSite(<Unseen />);
  await userEvent.click(screen.getByRole("button", { name: "Not interested in Film 2" }));
  expect(await screen.findByText("Look again.")).toBeInTheDocument();
  expect(screen.getAllByRole("link")).toHaveLength(3);
});

test("a row that failed says so and can be tried again", async () => {
  const retry = vi.fn();
  const error = new Problem({
    type: "/problems/no-model",
    title: "No model",
    status: 503,
    detail: "Nothing is trained.",
  });
  await renderSite(<FilmRow title="For you" films={undefined} error={error} onRetry={retry} />);
  expect(screen.getByRole("alert")).toHaveTextContent("Nothing is trained.");
  await userEvent.click(screen.getByRole("button", { name: "Try again" }));
  expect(retry).toHaveBeenCalledOnce();
});

test("a poster that cannot be loaded gives way to the drawn card", async () => {
  const film = {
    ...films[0],
    item_id: 9,
    title: "Heat",
    poster_url: "https://image.tmdb.org/t/p/w500/h.jpg",
  };
  const { container } = await renderSite(<FilmRow title="For you" films={[film]} />);
  const image = container.querySelector("img");
  expect(image).toHaveAttribute("srcset", expect.stringContaining("w185"));
  if (image) fireEvent.error(image);
  expect(container.querySelector("img")).toBeNull();
  expect(container.querySelector("article svg text")).toBeInTheDocument();
});
