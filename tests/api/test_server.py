import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from free_ports import free_port
from waiting import until

from marquee.api.server import serve
from marquee.config import Settings
from marquee.errors import ConfigError
from marquee.store.repositories import keys

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 60
COMMAND = """
from marquee.api.server import serve
from marquee.config import load_settings
from marquee.telemetry import configure_logs

settings = load_settings()
configure_logs(settings.log, server=True)
serve(settings)
"""


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def start(settings, database_url, port, tmp_path):
    """Start the API in a process of its own, on a real socket, with more settings by their variables."""
    with contextlib.ExitStack() as stack:

        def started(**variables):
            environment = {
                **os.environ,
                "MARQUEE_HOME": str(settings.home),
                "MARQUEE_PORT": str(port),
                "MARQUEE_DATABASE__URL": database_url,
                **variables,
            }
            log = stack.enter_context((tmp_path / "log").open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND], env=environment, stdout=log, stderr=log, cwd=tmp_path
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def process(deployed, start):
    return start()


@pytest.fixture
def api(process, port):
    """A client, once the API answers."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client:
        until(lambda: (said := answer(client, "/health")) and said.json()["status"] == "ok", process=process)
        yield client


def test_health_answers_while_a_run_is_waited_for_and_sigterm_ends_the_wait(api, process, tmp_path):
    answers = []

    def train():
        with httpx.Client(base_url=api.base_url, timeout=DEADLINE_SECONDS) as client:
            answers.append(client.post("/run/train", json={"model_name": "mlp"}))

    waiting = threading.Thread(target=train)
    waiting.start()
    until(lambda: api.get("/v1/runs").json()["runs"])
    for _ in range(20):
        assert api.get("/health").json()["status"] == "ok"
    assert not answers
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    waiting.join(DEADLINE_SECONDS)
    assert answers[0].status_code == 202
    lines = (tmp_path / "log").read_text()
    assert lines.count('"path":"/run/train"') == 1
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


def test_unreachable_database_at_the_start_is_named_by_an_api_that_runs(start, port, tmp_path):
    process = start(MARQUEE_DATABASE__URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client:
        health = until(lambda: answer(client, "/health"), process=process)
        assert "database" in health.json()["lacks"]
        assert client.get("/readyz").status_code == 503
        assert client.post("/run/train").status_code == 401  # whether there is a key cannot be read


def test_other_machines_are_served_only_once_there_is_a_key(settings, port, database):
    everywhere = Settings(home=settings.home, host="0.0.0.0", port=port, database=settings.database)
    with pytest.raises(ConfigError, match="marquee keys create"):
        serve(everywhere)
    with database.begin() as connection:
        keys.create(connection, "me", "operator")
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        with pytest.raises(ConfigError, match="Cannot listen"):
            serve(everywhere)


def test_operator_key_file_opens_the_port_to_other_machines(deployed, start, port, tmp_path):
    key, file = "0123456789abcdef0123456789abcdef", tmp_path / "key"
    file.write_text(key)
    ops_port = str(free_port())
    process = start(
        MARQUEE_HOST="0.0.0.0", MARQUEE_OPERATOR_KEY_FILE=str(file), MARQUEE_API__OPS_PORT=ops_port
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client:
        until(lambda: answer(client, "/health"), process=process)
        assert client.post("/v1/keys").status_code == 401
        assert client.get("/v1/keys", headers={"authorization": f"Bearer {key}"}).status_code == 404
        for path in ("/livez", "/readyz", "/metrics"):
            assert client.get(path).status_code == 404
            assert httpx.get(f"http://127.0.0.1:{ops_port}{path}").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert key not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_two_processes_share_a_port_and_their_metrics_and_one_that_dies_is_replaced(
    deployed, start, port, tmp_path
):
    parent = start(MARQUEE_API__PROCESSES="2")
    log = tmp_path / "log"
    base = f"http://127.0.0.1:{port}"

    def pids():
        lines = map(json.loads, log.read_text().splitlines())
        return [line["pid"] for line in lines if line["event"] == "api.ready"]

    def asked(n):
        for _ in range(n):  # each by a connection of its own: the kernel chooses the process
            assert httpx.get(f"{base}/health", timeout=DEADLINE_SECONDS).status_code == 200

    def counted():
        name = 'marquee_http_requests_total{method="GET",route="/health",status="200"} '
        lines = httpx.get(f"{base}/metrics", timeout=DEADLINE_SECONDS).text.splitlines()
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0)

    until(lambda: len(pids()) == 2, process=parent)
    asked(40)
    until(lambda: counted() == 40, process=parent)
    first, second = pids()
    folder = next((tmp_path / "home" / "metrics").iterdir())
    assert {int(file.stem.rpartition("_")[2]) for file in folder.glob("counter_*.db")} == {first, second}
    told = httpx.get(f"{base}/metrics", timeout=DEADLINE_SECONDS).text
    for pid in (first, second):
        assert f'process_resident_memory_bytes{{pid="{pid}"}}' in told
    assert "marquee_database_up 1.0" in told
    assert "marquee_runs_waiting" not in told
    os.kill(first, signal.SIGKILL)
    until(lambda: len(pids()) == 3, process=parent)
    asked(10)
    until(lambda: counted() == 50, process=parent)
    assert not list(folder.glob(f"gauge_live*_{first}.db"))
    assert f'pid="{first}"' not in httpx.get(f"{base}/metrics", timeout=DEADLINE_SECONDS).text
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(DEADLINE_SECONDS) == 0
    assert not any(is_running(pid) for pid in pids())


@pytest.mark.slow
def test_processes_do_not_outlive_their_parent(deployed, start, tmp_path):
    parent = start(MARQUEE_API__PROCESSES="2")
    log = tmp_path / "log"
    until(lambda: log.read_text().count('"api.ready"') == 2, process=parent)
    lines = map(json.loads, log.read_text().splitlines())
    pids = [line["pid"] for line in lines if line["event"] == "api.ready"]
    parent.kill()
    parent.wait()
    until(lambda: not any(is_running(pid) for pid in pids))


def test_what_keeps_a_process_from_starting_is_told_by_the_parent(settings, port, tmp_path):
    with pytest.raises(ConfigError, match="MARQUEE_OPERATOR_KEY_FILE"):
        serve(
            Settings(
                home=settings.home,
                port=port,
                database=settings.database,
                operator_key_file=tmp_path / "none",
                api={"processes": 2},
            )
        )


def test_taken_port_is_named_although_processes_share_it(settings, port):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            serve(Settings(home=settings.home, port=port, database=settings.database, api={"processes": 2}))


def answer(client, path):
    """The answer, None while nobody listens."""
    try:
        return client.get(path)
    except httpx.TransportError:
        return None


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
