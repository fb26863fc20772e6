import { expect, test } from "vitest";
import { posterSources } from "./films";

test("a TMDB poster has a source for each width", () => {
  const { src, srcSet } = posterSources("https://image.tmdb.org/t/p/w500/a.jpg");
  expect(src).toBe("https://image.tmdb.org/t/p/w342/a.jpg");
  expect(srcSet?.split(", ")).toHaveLength(4);
  expect(srcSet).toContain("https://image.tmdb.org/t/p/w154/a.jpg 154w");
});

test("a poster of another host is taken as it is", () => {
  expect(posterSources("https://example.org/a.png")).toEqual({ src: "https://example.org/a.png" });
});
