import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useLocation } from "react-router";
import { expect, test, vi } from "vitest";
import { problem, renderSite } from "../../test/render";
import { SearchPage } from "./search-page";

const film = (item_id: number) => ({ item_id, title: `Film ${item_id}`, year: 2000, genres: ["Drama"] });

function Site() {
  return (
    <>
      <SearchPage />
      <p data-testid="at">{useLocation().search}</p>
    </>
  );
}

function serve(items: (query: URLSearchParams) => unknown) {
  const asked: URLSearchParams[] = [];
  vi.stubGlobal("fetch", (input: Request) => {
    const url = new URL(input.url);
    if (url.pathname === "/v1/genres")
      return Promise.resolve(Response.json({ genres: [{ genre: "Drama", items: 2 }] }));
    asked.push(url.searchParams);
    const answer = items(url.searchParams);
    return Promise.resolve(answer instanceof Response ? answer : Response.json(answer));
  });
  return asked;
}

test("a filter goes into the address and to the API, and is taken back", async () => {
  const asked = serve(() => ({ items: [film(1)], next_cursor: null }));
  await renderSite(<Site />);
  await userEvent.click(await screen.findByRole("checkbox", { name: "Drama" }));
  await userEvent.type(screen.getByRole("textbox", { name: "From" }), "1990");
  expect(screen.getByTestId("at")).toHaveTextContent("?genre=Drama&from=1990");
  await waitFor(() => expect(asked.at(-1)?.get("year_from")).toBe("1990"));
  expect(asked.at(-1)?.getAll("genre")).toEqual(["Drama"]);
  await userEvent.click(screen.getByRole("button", { name: "Clear filters" }));
  expect(screen.getByTestId("at")).toHaveTextContent("");
});

test("further films follow by the button, and reading goes on at the first of them", async () => {
  serve((query) =>
    query.get("cursor") === "next"
      ? { items: [film(2)], next_cursor: null }
      : { items: [film(1)], next_cursor: "next" },
  );
  await renderSite(<Site />);
  await userEvent.click(await screen.findByRole("button", { name: "Show more films" }));
  const second = await screen.findByRole("link", { name: /Film 2/ });
  await waitFor(() => expect(second).toHaveFocus());
  expect(screen.queryByRole("button", { name: "Show more films" })).not.toBeInTheDocument();
});

test("a search that fails can be tried again, and one without films says so", async () => {
  let works = false;
  serve(() =>
    works ? { items: [], next_cursor: null } : problem(500, "/problems/internal", { fix: "Wait." }),
  );
  await renderSite(<Site />);
  expect(await screen.findByRole("alert")).toHaveTextContent("Wait.");
  works = true;
  await userEvent.click(screen.getByRole("button", { name: "Try again" }));
  expect(await screen.findByText("No film fits")).toBeInTheDocument();
});
