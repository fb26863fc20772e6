import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from marquee.api.server import serve
from marquee.config import Settings
from marquee.errors import ConfigError, StoreUnavailableError

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 60
COMMAND = """
from marquee.api.server import serve
from marquee.config import load_settings
from marquee.telemetry import configure_logs

settings = load_settings()
configure_logs(settings.log)
serve(settings)
"""


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def process(deployed, settings, database_url, port, tmp_path):
    """The API in a process of its own, on a real socket."""
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_PORT": str(port),
        "MARQUEE_DATABASE__URL": database_url,
    }
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen([sys.executable, "-c", COMMAND], env=environment, stderr=log, cwd=tmp_path)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.fixture
def api(process, port):
    """A client, once the API answers."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client:
        while True:
            try:
                if client.get("/health").json()["status"] == "ok":
                    break
            except httpx.TransportError:
                assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.02)
        yield client


def test_health_answers_while_a_run_is_waited_for_and_sigterm_ends_the_wait(api, process, tmp_path):
    answers = []

    def train():
        with httpx.Client(base_url=api.base_url, timeout=DEADLINE_SECONDS) as client:
            answers.append(client.post("/run/train", json={"model_name": "mlp"}))

    waiting = threading.Thread(target=train)
    waiting.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not api.get("/v1/runs").json()["runs"]:
        assert time.monotonic() < deadline
    for _ in range(20):
        assert api.get("/health").json()["status"] == "ok"
    assert not answers
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    waiting.join(DEADLINE_SECONDS)
    assert answers[0].status_code == 202
    lines = (tmp_path / "log").read_text()
    assert lines.count('"path": "/run/train"') == 1
    assert "Traceback" not in lines


def test_interrupt_ends_the_process_cleanly(api, process, tmp_path):
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_taken_port_is_named(settings, port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            serve(Settings(home=settings.home, port=port, database=settings.database))


def test_foreign_address_is_named(settings, port):
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        serve(Settings(home=settings.home, host="192.0.2.1", port=port, database=settings.database))


def test_unreachable_database_at_the_start_is_one_clear_error(tmp_path, port):
    url = f"postgresql://nobody@127.0.0.1:{port}/none"
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        serve(Settings(home=tmp_path, port=port, database={"url": url}))
