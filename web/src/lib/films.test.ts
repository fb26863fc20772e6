import { expect, test } from "vitest";
import { posterSources, withoutRepeats } from "./films";

test("a TMDB poster has a source for each width", () => {
  const { src, srcSet } = posterSources("https://image.tmdb.org/t/p/w500/a.jpg");
  expect(src).toBe("https://image.tmdb.org/t/p/w342/a.jpg");
  expect(srcSet?.split(", ")).toHaveLength(4);
  expect(srcSet).toContain("https://image.tmdb.org/t/p/w154/a.jpg 154w");
});

test("a poster of another host is taken as it is", () => {
  expect(posterSources("https://example.org/a.png")).toEqual({ src: "https://example.org/a.png" });
});

test("no film comes twice and rows are filled from what is left", () => {
  const film = (item_id: number) => ({ item_id, title: String(item_id) });
  const rows = withoutRepeats([[1, 2, 3].map(film), [2, 1, 4, 5].map(film)], 2);
  expect(rows.map((row) => row.map((entry) => entry.item_id))).toEqual([
    [1, 2],
    [4, 5],
  ]);
});
