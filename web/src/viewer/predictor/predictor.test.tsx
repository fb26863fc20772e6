import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { answering, problem, renderSite } from "../../test/render";
import { PredictorPage } from "./predictor-page";

const card = (content_id: number, title: string) => ({ content_id, title, poster_url: null });
const rest = {
  "GET /v1/session": { user_id: 2 ** 52, role: "visitor", demo: false },
  "GET /available-contents": { available_contents: [card(1, "Amélie"), card(2, "Heat"), card(3, "Alien")] },
  "GET /latest-recommendations": { recent_recommendations: [] },
  "GET /v1/items/2": { item_id: 2, title: "Heat", runtime_minutes: 170, popularity: 17.924 },
};

async function open(predict: unknown) {
  const { fetcher, requests } = answering({ ...rest, "POST /predict": predict });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<PredictorPage />);
  return requests;
}

async function chooseHeat() {
  await screen.findByText("Films that the predictor knows: 3");
  await userEvent.type(screen.getByRole("combobox", { name: "Film" }), "hea{Enter}");
  await waitFor(() => expect(screen.getByRole("textbox", { name: "Popularity" })).toHaveValue("17.9"));
}

const press = () => userEvent.click(screen.getByRole("button", { name: "Predict" }));

test("one viewing is asked as typed and the answer is shown as cards", async () => {
  const requests = await open({ user_id: 2 ** 52, recommendations: [card(3, "Alien")] });
  await chooseHeat();
  await userEvent.click(screen.getByRole("button", { name: "Watched in full, 170 min" }));
  const latestBefore = requests.filter(({ path }) => path === "/latest-recommendations").length;
  await press();
  expect(await screen.findByRole("link", { name: /Alien/ })).toHaveAttribute("href", "/films/3");
  expect(requests.find(({ path }) => path === "/predict")?.body).toMatchObject({
    user_id: 2 ** 52,
    content_id: 2,
    watch_seconds: 10_200,
    rating: 8,
    popularity: 17.9,
  });
  await waitFor(() =>
    expect(requests.filter(({ path }) => path === "/latest-recommendations")).toHaveLength(latestBefore + 1),
  );
});

test("films are found without accents, and Escape keeps the one chosen", async () => {
  await open(undefined);
  await chooseHeat();
  const field = screen.getByRole("combobox", { name: "Film" });
  await userEvent.clear(field);
  await userEvent.type(field, "amelie");
  expect(screen.getByRole("option", { name: "Amélie", selected: true })).toBeInTheDocument();
  await userEvent.keyboard("{Escape}{Tab}");
  expect(field).toHaveValue("Heat");
});

test("what cannot be asked is said at its field, which gets the focus", async () => {
  const requests = await open(undefined);
  await screen.findByText("Films that the predictor knows: 3");
  const rating = screen.getByRole("textbox", { name: "Rating, 0 to 10" });
  await userEvent.clear(rating);
  await userEvent.type(rating, "11");
  await press();
  const film = screen.getByRole("combobox", { name: "Film" });
  expect(film).toHaveAccessibleDescription(/Choose a film/);
  expect(rating).toHaveAccessibleDescription("Give a rating from 0 to 10.");
  await waitFor(() => expect(film).toHaveFocus());
  expect(requests.some(({ path }) => path === "/predict")).toBe(false);
});

test("what the API refuses is shown at its field with the fix, until that is changed", async () => {
  const errors = [{ field: "body.rating", message: "Input should be less than or equal to 9" }];
  await open(problem(422, "/problems/invalid-request", { errors, fix: "Correct the fields." }));
  await chooseHeat();
  await press();
  const rating = screen.getByRole("textbox", { name: "Rating, 0 to 10" });
  await waitFor(() =>
    expect(rating).toHaveAccessibleDescription("Input should be less than or equal to 9 Correct the fields."),
  );
  await userEvent.type(rating, "{Backspace}7");
  expect(rating).not.toHaveAttribute("aria-invalid");
});

test("a film that the predictor does not know is said at the film", async () => {
  await open(problem(404, "/problems/unknown-content", { detail: "Not known.", fix: "Choose another." }));
  await chooseHeat();
  await press();
  const film = screen.getByRole("combobox", { name: "Film" });
  await waitFor(() => expect(film).toHaveAccessibleDescription(/Not known\. Choose another\./));
});
