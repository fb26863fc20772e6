import { expect, test } from "vitest";
import { EMPTY, filmOf, mistakesOf } from "./new-film";

test("a film needs a number and a title", () => {
  expect(mistakesOf(EMPTY)).toEqual({ number: "missing", title: "missing" });
});

test("every field that cannot be right is told", () => {
  const draft = {
    ...EMPTY,
    title: "Evening",
    number: "-3",
    runtime: "1.5",
    language: "Korean!",
    poster: "poster.jpg",
  };
  expect(mistakesOf(draft)).toEqual({
    number: "number",
    runtime: "runtime",
    language: "language",
    poster: "poster",
  });
});

test("what was left empty is left out of what is sent", () => {
  const draft = {
    ...EMPTY,
    title: " Evening ",
    number: "9000001",
    genres: "Drama, , Crime",
    koreanTitle: "저녁",
  };
  expect(mistakesOf(draft)).toEqual({});
  expect(filmOf(draft)).toEqual({
    item_id: 9000001,
    title: "Evening",
    genres: ["Drama", "Crime"],
    people: [],
    keywords: [],
    adult: false,
    texts: { ko: { title: "저녁" } },
  });
});
