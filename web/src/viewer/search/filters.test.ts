import { expect, test } from "vitest";
import { asQuestion, countFilters, readFilters, writeFilters } from "./filters";

const read = (address: string) => readFilters(new URLSearchParams(address));

test("filters survive the way through an address", () => {
  const address = "q=star+wars&genre=Drama&genre=Crime&from=1970&to=1999&language=ko&runtime=120&sort=newest";
  expect(writeFilters(read(address)).toString()).toBe(address);
});

test("what chooses nothing is not in the address", () => {
  expect(writeFilters(read("")).toString()).toBe("");
  expect(writeFilters(read("q=a&sort=relevance")).toString()).toBe("q=a");
});

test("nonsense in an address is left out", () => {
  const filters = read("from=abc&to=-4&language=%3Cb%3E&runtime=0&sort=best&genre=&genre=War&genre=War");
  expect(filters).toEqual(read("genre=War"));
});

test("the API is asked for what is chosen only, with years the right way round", () => {
  expect(asQuestion(read("q=+heat+"))).toEqual({ q: "heat", limit: 24, sort: "relevance" });
  expect(asQuestion(read("from=2000&to=1990"))).toMatchObject({ year_from: 1990, year_to: 2000 });
  expect(asQuestion(read("genre=War&language=fr"))).toMatchObject({ genre: ["War"], language: ["fr"] });
});

test("both years count as one filter", () => {
  expect(countFilters(read("genre=War&genre=Crime&from=1990&to=2000"))).toBe(3);
});
