"""
Takes the pictures docs/images/site-*.png of the running site: `make screenshots`.

Starts Marquee on a home of its own and lets some people watch films, so that every view has something to
show. Posters are the drawn cards, as the browser reaches nothing but this machine: pictures are the same
wherever they are taken.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import httpx
from PIL import Image
from playwright.sync_api import APIRequestContext, Browser, Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
READY = "Ctrl-C stops everything."
MOST_BYTES = 150_000
PATIENCE_SECONDS = 60
LIKED = (157336, 603, 329865, 78)
WATCHED = 335984
# Rows further down wait until somebody comes near.
ARRIVED = """
    () => ![...document.querySelectorAll("[aria-busy=true]")].some(
        element => element.getBoundingClientRect().top < innerHeight)
"""
RENAME = """
    ([from, to]) => {
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(from, to);
    }
"""


@dataclass(frozen=True)
class Picture:
    """A view and how it is looked at."""

    name: str
    path: str
    theme: Literal["light", "dark"] = "dark"
    locale: str = "en-US"
    width: int = 1280
    height: int = 800
    before: Callable[[Page], None] = lambda page: None
    """What is done before it is taken."""


def pictures(ids: dict[str, str]) -> list[Picture]:
    """All of them, the console's with the ids of what is looked at."""
    return [
        Picture("home", "/"),
        Picture("home-ko", "/", locale="ko-KR"),
        Picture("film", "/films/27205"),
        Picture("welcome", "/welcome", before=_pick),
        Picture("search", "/search?q=the", "light"),
        Picture("predictor", "/predictor", before=_predict),
        Picture("profile", "/me", "light"),
        Picture("ops", "/ops", height=1100),
        Picture("ops-monitoring", "/ops/monitoring", height=1500),
        Picture("ops-run", f"/ops/runs/{ids['run']}"),
        Picture("ops-data", "/ops/data", "light"),
        Picture("ops-catalogue", "/ops/catalogue", "light"),
        Picture("ops-models", "/ops/models"),
        Picture("ops-model", f"/ops/models/{ids['version']}", "light", height=1600),
        Picture("ops-model-ko", f"/ops/models/{ids['version']}", "light", "ko-KR", height=1600),
        Picture("ops-compare", f"/ops/models/compare?a={ids['version']}&b={ids['other']}&user=1"),
        Picture("ops-experiment", f"/ops/experiments/{ids['experiment']}", height=1300),
        Picture("ops-person", "/ops/people/1", "light"),
    ]


def main() -> None:
    """Start Marquee, let it be used, take the pictures."""
    path = os.environ.get("MARQUEE_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit(f"needs a browser: {', '.join(BROWSERS)}, or MARQUEE_TEST_BROWSER")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        output = Path(folder) / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", "up"],
                env={
                    **kept,
                    "MARQUEE_HOME": f"{folder}/home",
                    "MARQUEE_PORT": str(port),
                    "MARQUEE_DEMO": "true",
                },
                cwd=folder,
                stdout=out,
                stderr=out,
            )
        try:
            while READY not in output.read_text("utf-8"):
                if process.poll() is not None:
                    sys.exit(output.read_text("utf-8"))
                time.sleep(0.1)
            with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
                ids = used(client)
            browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
            take(browser, url, pictures(ids), folder)
            browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def used(client: httpx.Client) -> dict[str, str]:
    """Let models be trained and compared, and people watch films; the ids of what to look at."""
    for model in ("item_knn", "ease"):
        _ran(client, "/run/train", {"model_name": model})
    _ran(client, "/v1/models/promote", {})
    run = _ran(client, "/run/pipeline", {"model_name": "mlp"})
    versions = _asked(client, "GET", "/v1/models?limit=20")["models"]
    champion = next(version for version in versions if "champion" in version["slots"])
    other = next(version for version in versions if version["model"] == "item_knn")
    experiment = _asked(
        client,
        "POST",
        "/v1/experiments",
        {
            "name": "neighbours or a linear model",
            "arms": [{"version": "champion", "share": 0.5}, {"version": other["version"], "share": 0.5}],
            "reason": "do people like lists of near neighbours as much?",
        },
    )
    users = [user["user_id"] for user in _asked(client, "GET", "/v1/users?limit=60")["users"]]
    for user in users:
        _watch(client, user)
    _ran(client, "/run/monitor", {})
    for item in _asked(client, "GET", "/v1/items?limit=3")["items"][1:]:
        _asked(client, "PATCH", f"/v1/items/{item['item_id']}", {"pin": True})
    return {
        "run": run,
        "version": champion["version"],
        "other": other["version"],
        "experiment": str(experiment["experiment_id"]),
    }


def take(browser: Browser, url: str, wanted: list[Picture], folder: str) -> None:
    """Take pictures and write them; the folder that Marquee runs in is none of the reader's."""
    IMAGES.mkdir(exist_ok=True)
    for picture in wanted:
        context = browser.new_context(
            base_url=url,
            viewport={"width": picture.width, "height": picture.height},
            locale=picture.locale,
            timezone_id="UTC",
            color_scheme=picture.theme,
            reduced_motion="reduce",
        )
        _introduce(context.request)
        page = context.new_page()
        page.goto(picture.path, wait_until="networkidle")
        picture.before(page)
        _settle(page)
        page.evaluate(RENAME, [f"{folder}/home", "~/.marquee"])
        page.evaluate("document.documentElement.style.scrollbarGutter = 'auto'")  # there is no scroll bar
        png = page.screenshot(animations="disabled", caret="hide")
        context.close()
        file = IMAGES / f"site-{picture.name}.png"
        file.write_bytes(small(png))


def small(png: bytes) -> bytes:
    """The same picture in fewer colours: mixed where that fits the size, else side by side."""
    image = Image.open(BytesIO(png)).convert("RGB")
    palette = image.quantize(256, kmeans=3)
    for dither in (Image.Dither.FLOYDSTEINBERG, Image.Dither.NONE):
        out = BytesIO()
        image.quantize(palette=palette, dither=dither).save(out, "PNG", optimize=True)
        if out.tell() <= MOST_BYTES:
            return out.getvalue()
    sys.exit(f"a picture has {out.tell()} bytes")


def _introduce(viewer: APIRequestContext) -> None:
    """Become somebody who likes some films."""
    viewer.post("/v1/session", data={})
    for film in LIKED:
        viewer.post("/v1/events", data={"event": "like", "item_id": film})
    viewer.post("/v1/events", data={"event": "watch", "item_id": WATCHED, "watch_seconds": 9000})


def _pick(page: Page) -> None:
    films = page.get_by_role("list", name="Films to choose from").get_by_role("button")
    for place in (1, 2, 5):
        films.nth(place).click()
    page.mouse.move(0, 0)


def _predict(page: Page) -> None:
    page.get_by_role("combobox", name="Film", exact=True).click()
    page.keyboard.type("inception")
    expect(page.get_by_role("option", name="Inception", selected=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Popularity")).not_to_have_value("")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_role("region", name="What comes next").get_by_role("article")).not_to_have_count(0)
    page.evaluate("scrollTo(0, 0)")


def _settle(page: Page) -> None:
    expect(page.get_by_role("main").get_by_role("heading", level=1)).not_to_be_empty()
    page.wait_for_function(ARRIVED)


def _watch(client: httpx.Client, user: int) -> None:
    shown = _asked(client, "GET", f"/v1/users/{user}/recommendations?k=10")
    events: list[dict[str, Any]] = [{"event": "view", "user_id": user, "request_id": shown["request_id"]}]
    # Some find what they like at the top, some further below, some nothing.
    for place in range(user % 4):
        film = shown["items"][3 * place % len(shown["items"])]["item_id"]
        joined = {"user_id": user, "item_id": film, "request_id": shown["request_id"]}
        events += [{"event": "click", **joined}, {"event": "watch", "watch_seconds": 5400, **joined}]
    _asked(client, "POST", "/v1/events", {"events": events})


def _ran(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """Start a run and wait for its end; its id."""
    run: str = _asked(client, "POST", f"{path}?wait=false", body)["run_id"]
    while _asked(client, "GET", f"/v1/runs/{run}")["status"] in ("queued", "running"):
        time.sleep(0.2)
    return run


def _asked(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    answer = client.request(method, path, json=body)
    if answer.is_error:
        sys.exit(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
