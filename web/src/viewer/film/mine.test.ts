import { expect, test } from "vitest";
import { mineOf } from "./mine";

const told = (event: string, event_key: string | null, rest: object = {}) => ({
  item_id: 1,
  event,
  event_key,
  rating: null,
  watch_seconds: null,
  ...rest,
});
const NONE = new Set<string>();

test("what was done a moment ago counts before what the history tells", () => {
  const mine = mineOf(1, { keys: { rate: "new" }, rating: 9 }, [told("rate", "old", { rating: 4 })], NONE);
  expect(mine.rate).toMatchObject({ eventKey: "new", rating: 9 });
});

test("the newest event of each kind is the one that is taken back", () => {
  const history = [told("watch", "b", { watch_seconds: 600 }), told("watch", "a"), told("like", "c")];
  const mine = mineOf(1, undefined, history, NONE);
  expect(mine.watch).toMatchObject({ eventKey: "b", watchSeconds: 600 });
  expect(mine.like?.eventKey).toBe("c");
  expect(mine.hide).toBeUndefined();
});

test("an event that was taken back counts no more, though the history still tells of it", () => {
  expect(mineOf(1, undefined, [told("like", "c")], new Set(["c"])).like).toBeUndefined();
});

test("events of other films say nothing, and imported ones cannot be taken back", () => {
  expect(mineOf(2, undefined, [told("like", "c")], NONE)).toEqual({});
  expect(mineOf(1, undefined, [told("watch", null)], NONE).watch?.eventKey).toBeNull();
});
