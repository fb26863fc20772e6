"""
How heavy and how quick the site is in a browser.

Starts Marquee on a home of its own and opens its site in headless Chromium, each time with an empty cache:
what the first visit loads, compressed; when something is first painted; how far a page jumps while it loads,
in the worst of its views; and how long after a click a row changes, at first sight and with what the API then
answers. Medians of several rounds, after one that is not counted. Chromium is the machine's, or the one that
MARQUEE_TEST_BROWSER names; it reaches nothing but this machine.

    python benchmarks/web.py [--rounds 9]
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from start import environment, free_port

READY = "Ctrl-C stops everything."
TARGET_KB = 200
TARGET_PAINT_MS = 1000
TARGET_CHANGE_MS = 200
TARGET_SHIFT = 0.05

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
VIEWS = ("/", "/films/27205", "/search?q=the", "/predictor", "/me")

VIEWER = 7
HOME = "/ of a viewer with a history"
FILES = ("document", "stylesheet", "script")

SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({type: "layout-shift", buffered: true});
"""
# Rows further down wait until somebody comes near.
ARRIVED = """
    () => ![...document.querySelectorAll("[aria-busy=true]")].some(
        element => element.getBoundingClientRect().top < innerHeight)
"""
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"

# From the click to the frame after which the change is on screen. The film that was clicked leaves at once;
# the row is up to date when what the API recommends after the event is drawn.
CLICK = """
    button => new Promise(done => {
        const film = button.closest("li"), row = film.parentElement;
        const painted = then => requestAnimationFrame(() => setTimeout(() => then(performance.now())));
        let begun, gone;
        button.addEventListener("click", event => { begun = event.timeStamp; }, {capture: true, once: true});
        const leaving = new MutationObserver(() => {
            if (film.isConnected) return;
            leaving.disconnect();
            painted(now => { gone = now - begun; });
        });
        leaving.observe(row, {childList: true});
        const answering = new PerformanceObserver(list => {
            const answers = list.getEntries().filter(entry => /\\/recommendations\\b/.test(entry.name));
            if (!answers.some(entry => entry.startTime >= begun)) return;
            answering.disconnect();
            // A task later the answer has been read, and what it changed is drawn in the frame after that.
            setTimeout(() => painted(now => done([gone, now - begun])));
        });
        answering.observe({type: "resource"});
        button.click();
    })
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    path = os.environ.get("MARQUEE_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit(f"needs a browser: {', '.join(BROWSERS)}, or MARQUEE_TEST_BROWSER")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        port = free_port()
        output = Path(folder) / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", "up"],
                env={**environment(Path(folder) / "home", port), "MARQUEE_DEMO": "true"},
                stdout=out,
                stderr=out,
            )
        try:
            while READY not in output.read_text("utf-8"):
                if process.poll() is not None:
                    sys.exit(output.read_text("utf-8"))
                time.sleep(0.1)
            browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
            report(f"http://127.0.0.1:{port}", browser, rounds)
            browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def report(url: str, browser: Browser, rounds: int) -> None:
    """Measure a running site and print."""
    sizes = first_load(url, browser)
    total = sum(sizes.values())
    parts = ", ".join(f"{kind} {size / 1000:.1f}" for kind, size in sizes.items())
    show("first load, gzip", total / 1000, "kB", TARGET_KB, parts)

    paints: list[float] = []
    changes: list[tuple[float, float]] = []
    shifts: dict[str, list[float]] = {view: [] for view in (*VIEWS, HOME)}
    for _ in range(rounds + 1):
        for view in VIEWS:
            with visitor(browser, url) as context:
                page = opened(context, view)
                shifts[view].append(page.evaluate("window.shifts"))
                if view == "/":
                    paints.append(page.evaluate(PAINTED))
        with visitor(browser, url) as context:
            context.request.post("/v1/session", data={"user_id": VIEWER})
            page = opened(context, "/")
            shifts[HOME].append(page.evaluate("window.shifts"))
            changes.append(changed(page))
    show("first contentful paint", statistics.median(paints[1:]), "ms", TARGET_PAINT_MS, spread(paints[1:]))
    for name, times in zip(
        ("click to changed row", "click to new answer"), zip(*changes[1:], strict=True), strict=True
    ):
        show(name, statistics.median(times), "ms", TARGET_CHANGE_MS, spread(times))
    medians = {view: statistics.median(values[1:]) for view, values in shifts.items()}
    worst = max(medians, key=lambda view: medians[view])
    show("layout shift", medians[worst], "", TARGET_SHIFT, f"the most of {len(medians)} views: {worst}")


def first_load(url: str, browser: Browser) -> dict[str, int]:
    """Bytes by kind, sent with gzip, of the page and the files that it loads before anything is touched."""
    with visitor(browser, url) as context:
        answers: list[Response] = []
        context.on("response", lambda answer: answers.append(answer))
        opened(context, "/")
        kinds = {answer.url: answer.request.resource_type for answer in answers}
    sizes: dict[str, int] = dict.fromkeys(FILES, 0)
    with httpx.Client(
        headers={"accept-encoding": "gzip", "accept": "text/html,*/*"}, trust_env=False
    ) as client:
        for address, kind in kinds.items():
            if kind in sizes:
                with client.stream("GET", address) as answer:
                    sizes[kind] += sum(map(len, answer.iter_raw()))
    return sizes


def changed(page: Page) -> tuple[float, float]:
    """Milliseconds from "not interested" until the film is gone, and until what the API answers is shown."""
    row = page.get_by_role("region", name="For you", exact=True)
    button = row.get_by_role("button", name="Not interested in", include_hidden=True).first
    gone, answered = button.evaluate(CLICK)
    return gone, answered


@contextlib.contextmanager
def visitor(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 800}, locale="en-US")
    context.add_init_script(SHIFTS)
    yield context
    context.close()


def opened(context: BrowserContext, view: str) -> Page:
    """A page after all that it loads by itself."""
    page = context.new_page()
    page.goto(view, wait_until="networkidle")
    page.wait_for_function(ARRIVED)
    return page


def show(name: str, value: float, unit: str, target: float, note: str) -> None:
    """A line of the report."""
    verdict = "met" if value <= target else "missed"
    print(f"{name:23}{value:8.4g} {unit:3} to reach: {target:g} {unit}: {verdict} ({note})")


def spread(times: Sequence[float]) -> str:
    """The least and the most."""
    return f"{min(times):.0f} to {max(times):.0f}"


if __name__ == "__main__":
    main()
