import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { createMemoryRouter } from "react-router";
import { beforeEach, expect, test, vi } from "vitest";
import { App } from "../app";
import { createQueryClient } from "../client/queries";
import { startI18n } from "../i18n";
import { routes } from "../routes";
import { markReachable, markUnreachable } from "../state/online";
import { answering } from "../test/render";
import { startTheme } from "../theme";

const list = {
  request_id: "r",
  user_id: 7,
  bundle: "b",
  tier: "personal",
  source: "model",
  qualified: 0,
  items: [],
};

async function open(path: string) {
  await startI18n();
  startTheme();
  render(
    <App queryClient={createQueryClient()} router={createMemoryRouter(routes, { initialEntries: [path] })} />,
  );
}

beforeEach(() => {
  markReachable();
  const { fetcher } = answering({
    "GET /v1/session": { user_id: 7, role: "visitor", demo: false },
    "GET /v1/users/7/recommendations": list,
    "GET /v1/popular": list,
    "GET /livez": { status: "alive" },
  });
  vi.stubGlobal("fetch", fetcher);
});

test("the language is switched, kept and told to the document", async () => {
  await open("/");
  await userEvent.click(screen.getByRole("button", { name: "한국어" }));
  expect(await screen.findByRole("heading", { name: "나를 위한 추천" })).toBeInTheDocument();
  expect(document.documentElement).toHaveAttribute("lang", "ko");
  expect(localStorage.getItem("marquee.language")).toBe("ko");
  expect(screen.getByRole("contentinfo")).toHaveTextContent("TMDB의 보증이나 인증을 받지 않았습니다");
});

test("the theme goes from the system's to light, dark and back", async () => {
  await open("/");
  const seen: (string | undefined)[] = [];
  for (let turn = 0; turn < 3; turn++) {
    await userEvent.click(screen.getByRole("button", { name: /^Theme/ }));
    seen.push(document.documentElement.dataset.theme);
  }
  expect(seen).toEqual(["light", "dark", undefined]);
});

test("a change of page moves the focus and the title", async () => {
  await open("/nowhere");
  expect(document.title).toBe("No such page · Marquee");
  await userEvent.click(screen.getByRole("link", { name: "To the home page" }));
  expect(screen.getByRole("main")).toHaveFocus();
  expect(document.title).toBe("Marquee");
});

test("the banner tells while the service is away", async () => {
  await open("/");
  await screen.findAllByText("Nothing to show yet");
  expect(screen.queryByText(/does not answer/)).not.toBeInTheDocument();
  markUnreachable();
  expect(await screen.findByText(/does not answer/)).toBeInTheDocument();
});
