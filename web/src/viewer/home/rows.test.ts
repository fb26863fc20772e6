import { expect, test } from "vitest";
import { arrange, askFor, genresFor, PER_ROW, seedsOf, type Deed, type Supply } from "./rows";

const films = (...ids: number[]) => ids.map((item_id) => ({ item_id, title: `Film ${item_id}` }));
const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);
const supply = (ids: number[] | undefined, more: Partial<Supply> = {}): Supply => ({
  films: ids && films(...ids),
  failed: false,
  leaveOut: () => false,
  ...more,
});
const idsOf = (rows: ReturnType<typeof arrange>) => rows.map((row) => row?.map((film) => film.item_id));
const deed = (item_id: number, event: string, rating: number | null = null): Deed => ({
  item_id,
  title: `Film ${item_id}`,
  event,
  rating,
});

test("rows that want the same films are full all the same and share none", () => {
  const rows = idsOf(arrange(range(0, 6).map((place) => supply(range(1, askFor(place))))));
  expect(rows.map((row) => row?.length)).toEqual(Array(6).fill(PER_ROW));
  expect(new Set(rows.flat()).size).toBe(6 * PER_ROW);
});

test("a row waits for those above it, so that it loses nothing later", () => {
  expect(idsOf(arrange([supply([1, 2]), supply(undefined), supply([2, 3])]))).toEqual([
    [1, 2],
    undefined,
    undefined,
  ]);
});

test("a row that failed holds up nobody", () => {
  expect(idsOf(arrange([supply(undefined, { failed: true }), supply([2, 3])]))).toEqual([undefined, [2, 3]]);
});

test("a film that is left out of one row may be in another", () => {
  expect(idsOf(arrange([supply([1, 2, 3], { leaveOut: (id) => id === 2 }), supply([2, 3, 4])]))).toEqual([
    [1, 3],
    [2, 4],
  ]);
});

test("films like those that were watched last, but for what was disliked or hidden", () => {
  const history = [deed(1, "hide"), deed(1, "watch"), deed(2, "rate", 3), deed(3, "click"), deed(4, "like")];
  const seeds = seedsOf([...history, deed(4, "watch"), deed(5, "watch"), deed(6, "watch")], 2);
  expect(seeds.map(({ item_id, liked }) => [item_id, liked])).toEqual([
    [4, true],
    [5, false],
  ]);
});

test("favourite genres come first, and those too small for a row not at all", () => {
  const catalogue = [
    { genre: "Drama", items: 200 },
    { genre: "Comedy", items: 90 },
    { genre: "Western", items: 3 },
  ];
  expect(genresFor(["Western", "Comedy"], catalogue, 2)).toEqual(["Comedy", "Drama"]);
});
