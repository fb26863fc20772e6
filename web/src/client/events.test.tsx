import { QueryClientProvider } from "@tanstack/react-query";
import { act, renderHook, screen } from "@testing-library/react";
import type { ReactNode } from "react";
import { beforeEach, expect, test, vi } from "vitest";
import { Toaster } from "../components/toast";
import { feedbackOf, forgetFeedback } from "../state/feedback";
import { problem, renderSite } from "../test/render";
import { useReport, useUndo } from "./events";
import { createQueryClient } from "./queries";

const film = { item_id: 1, title: "Film 1" };

/** What the hooks give, on a page that shows the messages. */
async function both() {
  await renderSite(<Toaster />);
  const wrapper = ({ children }: { children: ReactNode }) => (
    <QueryClientProvider client={createQueryClient()}>{children}</QueryClientProvider>
  );
  return renderHook(() => ({ report: useReport(), undo: useUndo() }), { wrapper }).result.current;
}

/** An API that takes everything, but for one kind of event, which it refuses when it is told to. */
function refusing(event: string): () => void {
  let refuse: (answer: Response) => void = () => undefined;
  const refused = new Promise<Response>((resolve) => (refuse = resolve));
  vi.stubGlobal("fetch", async (input: RequestInfo | URL, init?: RequestInit) => {
    const body = (await new Request(input, init).json()) as { event: string };
    return body.event === event ? refused : Response.json({ accepted: 1, duplicates: 0, event_keys: ["k"] });
  });
  return () => refuse(problem(404, "/problems/unknown-item", { fix: "Look again." }));
}

beforeEach(() => forgetFeedback());

test("a like that is refused late leaves the rating that was given meanwhile", async () => {
  const refuse = refusing("like");
  const { report } = await both();
  act(() => report.mutate({ action: "like", film }));
  await act(() => report.mutateAsync({ action: "rate", film, rating: 8 }));
  refuse();
  await screen.findByText("Look again.");
  expect(feedbackOf(1)).toMatchObject({ keys: { rate: expect.any(String) as string }, rating: 8 });
  expect(feedbackOf(1)?.keys.like).toBeUndefined();
});

test("a rating that is refused is the one before again", async () => {
  const { report } = await both();
  refusing("none");
  await act(() => report.mutateAsync({ action: "rate", film, rating: 8 }));
  const before = feedbackOf(1);
  refusing("rate")();
  await act(() => report.mutateAsync({ action: "rate", film, rating: 2 }).catch(() => undefined));
  expect(feedbackOf(1)).toMatchObject({ ...before });
});

test("an undo that is refused brings back its action and keeps what was done meanwhile", async () => {
  const { report, undo } = await both();
  refusing("none");
  const eventKey = await act(() => report.mutateAsync({ action: "rate", film, rating: 8 }));
  const refuse = refusing("undo");
  act(() => undo.mutate({ action: "rate", film, eventKey }));
  expect(feedbackOf(1)).toBeUndefined();
  await act(() => report.mutateAsync({ action: "watch", film, watchSeconds: 60 }));
  refuse();
  await screen.findByText("Look again.");
  expect(feedbackOf(1)).toMatchObject({ keys: { rate: eventKey }, rating: 8, watchSeconds: 60 });
});
