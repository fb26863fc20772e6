"""A running Marquee with its built site, and a real browser that lets no stray message pass."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from free_ports import free_port
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)
from waiting import until

REPOSITORY = Path(__file__).parents[2]
SITE = REPOSITORY / "src" / "marquee" / "api" / "site_files" / "index.html"
AXE = REPOSITORY / "web" / "node_modules" / "axe-core" / "axe.min.js"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = [
    "--no-sandbox",  # it does not start as root with one
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    # The network ends at this machine, without an interception that would also turn the browser's cache off.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
IMAGE_HOST = "image.tmdb.org"
DEADLINE_SECONDS = 180
EXPECTED_SECONDS = 120
GREETING = "Ctrl-C stops everything."


class Marquee:
    """
    A worker and an API on a home of their own, the API in demo mode.

    Attributes:
        operator_key: of the role operator; None where no key was made, and this machine is trusted.
    """

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.operator_key: str | None = None
        self._variables = variables
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start what does not run; return when the API is well."""
        self._spawn("worker")
        self.start_api()

    def start_api(self) -> None:
        """Start the API, on the port that it had before."""
        self._spawn("serve")
        until(self._is_well, lambda: self._log("serve"))

    def stop_api(self) -> None:
        """Stop the API; worker and database go on."""
        self._stop("serve")

    def stop(self) -> None:
        """Stop everything."""
        for name in list(self._processes):
            self._stop(name)

    def client(self) -> httpx.Client:
        """A client of the API with the operator's rights."""
        headers = {"authorization": f"Bearer {self.operator_key}"} if self.operator_key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False)

    def make_key(self, role: str) -> str:
        """Make an API key; from the first on this machine alone is trusted no more."""
        key: str = json.loads(self.run("keys", "create", f"test {role}", "--role", role, "--json"))["key"]
        return key

    def run(self, *arguments: str) -> bytes:
        """Run a command of the program; what it printed."""
        command = [sys.executable, "-m", "marquee.cli", *arguments]
        return subprocess.run(command, env=self._environment(), check=True, capture_output=True).stdout

    def build(self) -> None:
        """Let the first start of `marquee up` build everything, and stop it again."""
        self._spawn("up")
        until(lambda: GREETING in self._log("up"), lambda: self._log("up"), self._processes["up"])
        self._stop("up")

    def _spawn(self, verb: str) -> None:
        running = self._processes.get(verb)
        if running is not None and running.poll() is None:
            return
        with self._file(verb).open("ab") as log:
            self._processes[verb] = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", verb],
                env=self._environment(),
                cwd=self.home.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
            process.wait()

    def _environment(self) -> dict[str, str]:
        given = {"MARQUEE_HOME": str(self.home), "MARQUEE_PORT": str(self.port), "MARQUEE_DEMO": "true"}
        return {**os.environ, **given, **self._variables}

    def _is_well(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/health", trust_env=False, timeout=5).json()
        except httpx.HTTPError:
            return False
        return bool(health["status"] == "ok" and health["champion"])

    def _file(self, verb: str) -> Path:
        return self.home.with_name(f"{self.home.name}-{verb}.log")

    def _log(self, verb: str) -> str:
        return self._file(verb).read_text("utf-8", errors="replace")


class Noise:
    """What a page should not do: log errors or warnings, break, violate its policy, look elsewhere."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, *patterns: str) -> None:
        """Expect messages, earlier or later in this test, in which a pattern is found."""
        self._allowed += map(re.compile, patterns)

    def heard(self) -> list[str]:
        """What nobody expected."""
        return [text for text in self._heard if not any(p.search(text) for p in self._allowed)]

    def listen(self, context: BrowserContext) -> None:
        """Hear all pages of a context."""
        context.on("console", self._hear)
        context.on("weberror", lambda error: self._heard.append(f"error: {error.error}"))
        context.on("request", self._look)

    def _hear(self, message: ConsoleMessage) -> None:
        # Posters cannot be loaded here, of which the browser, and nobody else, complains.
        host = urlsplit(str(message.location.get("url", ""))).hostname
        if message.type in ("error", "warning") and host != IMAGE_HOST:
            self._heard.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _look(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and parts.hostname not in ("127.0.0.1", IMAGE_HOST):
            self._heard.append(f"request: {request.url}")


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], None]) -> Path:
    """What the first `marquee up` builds, once for all processes of a run of tests; to be copied."""
    if not SITE.is_file():
        missing("the built site (make web)")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    home, done = folder / "demo-home", folder / "demo-home.done"
    with (folder / "demo-home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            with _stopped(Marquee(home)) as marquee:
                marquee.build()
            done.touch()
    return home


@pytest.fixture(scope="session")
def site(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marquee]:
    """Marquee with keys: a browser is a stranger, as it is on a public host."""
    with _stopped(_copy(demo_home, tmp_path_factory.mktemp("site"))) as marquee:
        marquee.operator_key = marquee.make_key("operator")
        marquee.start()
        yield marquee


@pytest.fixture(scope="session")
def trusting_site(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marquee]:
    """Marquee without a key, as `make up` leaves it: a browser on this machine is the operator's."""
    with _stopped(_copy(demo_home, tmp_path_factory.mktemp("trusting"))) as marquee:
        marquee.start()
        yield marquee


@pytest.fixture(scope="session")
def proxied_site(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marquee]:
    """Marquee that believes a proxy on this machine."""
    folder = tmp_path_factory.mktemp("proxied")
    with _stopped(_copy(demo_home, folder, MARQUEE_API__TRUSTED_PROXIES="127.0.0.1")) as marquee:
        marquee.operator_key = marquee.make_key("operator")
        marquee.start()
        yield marquee


# Not for the session: while it is open no test of the same process can run an event loop.
@pytest.fixture(scope="module")
def browser(missing: Callable[[str], None]) -> Iterator[Browser]:
    """Chromium: the one that MARQUEE_TEST_BROWSER names, or the machine's."""
    named = os.environ.get("MARQUEE_TEST_BROWSER")
    path = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing(f"a browser ({', '.join(BROWSERS)}, or MARQUEE_TEST_BROWSER)")
    expect.set_options(timeout=EXPECTED_SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def noise() -> Iterator[Noise]:
    """Fails the test in the end if a page did what it should not and the test did not allow."""
    noise = Noise()
    yield noise
    assert noise.heard() == []


@pytest.fixture
def open_page(
    browser: Browser, noise: Noise, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """
    Open a path as a new visitor: `open_page("/films/27205", locale="ko-KR", width=320)`.

    Of `site`, unless `at` is another. Further arguments are those of Playwright's `Browser.new_context`:
    `reduced_motion="reduce"`, `color_scheme="dark"`, `has_touch=True`.
    """
    contexts: list[BrowserContext] = []

    def open_(
        path: str | None = "/",
        *,
        at: Marquee | None = None,
        locale: str = "en-US",
        width: int = 1280,
        height: int = 800,
        **options: Any,
    ) -> Page:
        marquee: Marquee = at or request.getfixturevalue("site")
        options = {"timezone_id": "UTC", **options}
        context = browser.new_context(
            base_url=marquee.url, locale=locale, viewport={"width": width, "height": height}, **options
        )
        context.set_default_timeout(EXPECTED_SECONDS * 1000)
        contexts.append(context)
        noise.listen(context)
        page = context.new_page()
        if path is not None:
            page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe(missing: Callable[[str], None]) -> Callable[[Page], None]:
    """Assert that axe finds nothing on a page, in what WCAG 2.2 AA and good practice ask for."""
    if not AXE.is_file():
        missing("axe-core (make web)")
    source = AXE.read_text("utf-8")

    def check(page: Page) -> None:
        page.evaluate(source)
        options = {"runOnly": {"type": "tag", "values": AXE_TAGS}, "resultTypes": ["violations"]}
        result = page.evaluate("options => axe.run(document, options)", options)
        assert [
            f"{violation['id']}: {violation['help']}: {node['html']} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ] == []

    return check


@contextlib.contextmanager
def _stopped(marquee: Marquee) -> Iterator[Marquee]:
    """Stop it in the end, whatever happens."""
    try:
        yield marquee
    finally:
        marquee.stop()


def _copy(home: Path, folder: Path, **variables: str) -> Marquee:
    # With owners: the database may belong to another account.
    subprocess.run(["cp", "-a", home, folder / "home"], check=True)
    return Marquee(folder / "home", **variables)
