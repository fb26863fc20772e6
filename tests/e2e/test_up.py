"""`marquee up` as a newcomer uses it: an empty home, a free port, Ctrl-C, and the worst that can happen."""

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from free_ports import free_port
from waiting import until

from marquee.config import Settings
from marquee.store.postgres import Database
from marquee.store.repositories import deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

DEADLINE_SECONDS = 180
GREETING = "Ctrl-C stops everything."
EVENT = {"user_id": 1, "watch_seconds": 5400, "rating": 8.5, "popularity": 60.0}


class Marquee:
    """A running `marquee` command with its home and port."""

    def __init__(self, home: Path, *arguments: str, **popen: Any) -> None:
        self.home = home
        self.greets = "up" in arguments and "stdout" not in popen
        self.port = free_port()
        self.output = home.with_name(f"{home.name}-{self.port}.out")
        environment = {**os.environ, "MARQUEE_HOME": str(home), "MARQUEE_PORT": str(self.port)}
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", *arguments],
                env=environment,
                cwd=home.parent,
                **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **popen},
            )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=DEADLINE_SECONDS, trust_env=False
        )

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def said(self) -> str:
        return self.output.read_text("utf-8", errors="replace")

    def health(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self.get("/health")
        except httpx.HTTPError:
            return {}
        return answer

    def until_ready(self) -> "Marquee":
        """Wait for the greeting, where one is written to the file, and for an API that is well."""
        until(self.is_ready, self.said, self.process)
        return self

    def is_ready(self) -> bool:
        return (not self.greets or GREETING in self.said()) and self.health().get("status") == "ok"

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that a first `marquee up` has built."""
    home = tmp_path_factory.mktemp("up") / "home"
    with running(home, "up") as marquee:
        assert "First start" in marquee.until_ready().said()
    return home


def test_second_start_reuses_what_is_there_and_answers_every_endpoint(home: Path) -> None:
    with running(home, "up") as marquee:
        health = marquee.until_ready().health()
        assert "ready in" in marquee.said()
        assert "First start" not in marquee.said()
        with Database.open(Settings(home=home)) as database, database.begin() as connection:
            slots = [one.slot for one in deployments.every(connection)]
            assert slots.count("predictor") == 1
        assert health["predictor"].startswith("mlp/")
        assert set(marquee.get("/")) == {"message"}
        assert {"service", "version"} <= set(marquee.get("/info"))
        available = marquee.get("/available-content-ids")
        ids = available["available_content_ids"]
        assert available["count"] == len(ids) > 100
        contents = marquee.get("/available-contents")["available_contents"]
        assert all({"content_id", "title", "poster_url"} == set(content) for content in contents)
        latest = marquee.get("/latest-recommendations?k=10")["recent_recommendations"]
        assert len({card["content_id"] for card in latest}) == 10  # the batch fills it
        answer = marquee.post("/predict", {**EVENT, "content_id": ids[0]})
        assert answer["user_id"] == 1
        assert set(answer["recommendations"][0]) == {"content_id", "title", "poster_url", "overview"}
        newest = marquee.get("/latest-recommendations?k=10")["recent_recommendations"]
        assert newest[0]["content_id"] in {card["content_id"] for card in answer["recommendations"]}
        assert len(answers_to_different_events(marquee, ids, 200)) >= 100
        assert marquee.post("/run/prepare-data") == {"result": "prepare-data finished"}
        assert marquee.post("/run/train", {"model_name": "mlp"}) == {"result": "train finished"}
        assert marquee.post("/run/model-inference") == {"result": "model-inference finished"}
        queued = marquee.client.post("/run/model-inference?wait=false")
        assert queued.status_code == 202
        run_id = queued.json()["run_id"]
        until(lambda: marquee.get(f"/v1/runs/{run_id}")["status"] == "succeeded", marquee.said)
        until(lambda: marquee.health()["predictor"] != health["predictor"], marquee.said)
        assert marquee.stop(signal.SIGTERM) == 0
        assert processes_of(home) == []


def test_ctrl_c_in_a_terminal_stops_every_process(home: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        with running(home, "up", stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                     preexec_fn=_take_terminal) as marquee:  # fmt: skip
            marquee.until_ready()
            assert len(processes_of(home)) > 3
            os.write(controller, b"\x03")
            drained = os.read(controller, 65536)
            assert marquee.process.wait(DEADLINE_SECONDS) == 0, drained
            assert processes_of(home) == []
    finally:
        os.close(controller)
        os.close(terminal)


def test_killed_supervisor_takes_everything_with_it_and_the_next_start_works(home: Path) -> None:
    with running(home, "up") as marquee:
        marquee.until_ready().stop(signal.SIGKILL)
        until(lambda: not processes_of(home), lambda: str(processes_of(home)))
    with running(home, "up") as everything:
        everything.until_ready()
        for pid, _ in processes_of(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        everything.process.wait(DEADLINE_SECONDS)
    with running(home, "up") as again:
        assert again.until_ready().stop() == 0
    assert processes_of(home) == []


def test_killed_api_and_worker_are_started_again(home: Path) -> None:
    with running(home, "up") as marquee:
        marquee.until_ready()
        for verb in ("serve", "worker"):
            [killed] = [pid for pid, command in processes_of(home) if f"marquee.cli {verb} " in command]
            os.kill(killed, signal.SIGKILL)
            until(
                lambda verb=verb, killed=killed: any(
                    f"marquee.cli {verb} " in command and pid != killed for pid, command in processes_of(home)
                ),
                marquee.said,
            )
        marquee.until_ready()
        assert marquee.post("/run/model-inference") == {"result": "model-inference finished"}


def test_ctrl_c_during_the_first_build_stops_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "up") as marquee:
        until(lambda: any(home.glob("checkpoints/*/*.safetensors")), marquee.said)
        assert marquee.stop() == 0
        assert processes_of(home) == []
        assert "Traceback" not in marquee.said()


def test_taken_port_is_one_clear_line(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for verb in ("up", "serve"):
            with running(home, verb, "--port", port) as marquee:
                assert marquee.process.wait(DEADLINE_SECONDS) == 1
                lines = [line for line in marquee.said().splitlines() if line.strip()]
                assert len(lines) == 1
                assert port in lines[0]
                assert "MARQUEE_PORT" in lines[0]


def test_serve_and_worker_run_on_their_own(home: Path) -> None:
    with running(home, "serve") as api, running(home, "worker") as worker:
        api.until_ready()
        assert api.post("/run/model-inference") == {"result": "model-inference finished"}
        assert worker.stop(signal.SIGTERM) == 0
        assert api.stop(signal.SIGTERM) == 0
    assert processes_of(home) == []


def answers_to_different_events(marquee: Marquee, ids: list[int], events: int) -> set[tuple[int, ...]]:
    answers = set()
    for number in range(events):
        event = {
            "user_id": number,
            "content_id": ids[number % len(ids)],
            "watch_seconds": 300 + 45 * number,
            "rating": (number % 21) / 2,
            "popularity": 1.5 + number,
        }
        cards = marquee.post("/predict", event)["recommendations"]
        answers.add(tuple(card["content_id"] for card in cards))
    return answers


@contextlib.contextmanager
def running(home: Path, *arguments: str, **popen: Any) -> Iterator[Marquee]:
    """A command that is stopped on leaving, with everything it started."""
    marquee = Marquee(home, *arguments, **popen)
    try:
        yield marquee
        if marquee.process.poll() is None:
            marquee.stop()
    finally:
        marquee.client.close()
        if marquee.process.poll() is None:
            marquee.process.kill()
            marquee.process.wait()


def processes_of(home: Path) -> list[tuple[int, str]]:
    """Process id and command of everything that runs on a home: by its environment, folder or arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            command = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = str(entry.joinpath("cwd").readlink())
            environment = entry.joinpath("environ").read_bytes().split(b"\0")
            ours = f"MARQUEE_HOME={home}".encode() in environment
            if ours or folder.startswith(f"{home}/") or str(home) in command:
                found.append((int(entry.name), command))
    return found


def _take_terminal() -> None:
    """In the child: make the terminal the one whose Ctrl-C counts."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
