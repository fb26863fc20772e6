import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useLocation } from "react-router";
import { beforeEach, expect, test, vi } from "vitest";
import { prefer } from "../../state/preferences";
import { answering, problem, renderSite } from "../../test/render";
import { SearchBox } from "./search-box";

const page = {
  items: [
    { item_id: 11, title: "Star Wars", original_title: "Star Wars", year: 1977, genres: ["Adventure"] },
    { item_id: 13, title: "Stardust", original_title: "Stardust", year: 2007, genres: [] },
  ],
  next_cursor: null,
};

function Site() {
  const { pathname, search } = useLocation();
  return (
    <>
      <SearchBox />
      <p data-testid="at">{pathname + search}</p>
    </>
  );
}

async function open(answer: unknown = page) {
  const { fetcher, requests } = answering({ "GET /v1/items": answer });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<Site />);
  return { field: screen.getByRole("combobox", { name: "Search films" }), requests };
}

const at = () => screen.getByTestId("at").textContent;
const chosen = () => screen.queryByRole("option", { selected: true })?.textContent;

beforeEach(() => prefer({ slash: true }));

test("films appear while one types, once typing rests", async () => {
  const { field, requests } = await open();
  expect(field).toHaveAttribute("aria-expanded", "false");
  await userEvent.type(field, "star");
  const list = await screen.findByRole("listbox");
  expect(field).toHaveAttribute("aria-expanded", "true");
  expect(field.getAttribute("aria-controls")).toBe(list.id);
  expect(within(list).getAllByRole("option")).toHaveLength(3);
  expect(within(list).getByText("1977 · Adventure")).toBeInTheDocument();
  expect(requests).toHaveLength(1);
});

test("arrows go through the films and back into the field, and Enter opens one", async () => {
  const { field } = await open();
  await userEvent.type(field, "star");
  await screen.findByRole("listbox");
  await userEvent.keyboard("{ArrowDown}{ArrowDown}");
  expect(chosen()).toContain("Stardust");
  expect(field.getAttribute("aria-activedescendant")).toBe(screen.getByRole("option", { selected: true }).id);
  expect(field).toHaveFocus();
  await userEvent.keyboard("{ArrowDown}{ArrowDown}");
  expect(chosen()).toBeUndefined();
  await userEvent.keyboard("{ArrowUp}{ArrowUp}{Enter}");
  expect(at()).toBe("/films/13");
  expect(screen.queryByRole("listbox")).not.toBeInTheDocument();
});

test("Enter with no film chosen leads to all results", async () => {
  const { field } = await open();
  await userEvent.type(field, "star{Enter}");
  expect(at()).toBe("/search?q=star");
});

test("Escape closes the list first and empties the field then", async () => {
  const { field } = await open();
  await userEvent.type(field, "star");
  await screen.findByRole("listbox");
  await userEvent.keyboard("{Escape}");
  expect(screen.queryByRole("listbox")).not.toBeInTheDocument();
  expect(field).toHaveValue("star");
  await userEvent.keyboard("{Escape}");
  expect(field).toHaveValue("");
});

test("the slash leads here, unless it is switched off", async () => {
  const { field } = await open();
  await userEvent.keyboard("/");
  expect(field).toHaveFocus();
  expect(field).toHaveValue("");
  field.blur();
  prefer({ slash: false });
  await waitFor(async () => {
    await userEvent.keyboard("/");
    expect(field).not.toHaveFocus();
  });
});

test("no films and a failed search are said", async () => {
  const { field } = await open({ items: [], next_cursor: null });
  await userEvent.type(field, "zzz");
  expect(await screen.findByText("No film found for “zzz”")).toBeInTheDocument();
  vi.stubGlobal("fetch", answering({ "GET /v1/items": problem(500, "/problems/internal") }).fetcher);
  await userEvent.type(field, "y");
  expect(await screen.findByRole("button", { name: "Try again" })).toBeInTheDocument();
});
