"""
Marquee, Airflow, a network between them that can fail, and whoever is told of failures.

For the tests of the pipeline, and for its pictures (docs/make_airflow_screenshots.py).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # for the programs that use this

import waiting
from free_ports import free_port

START = Path(__file__).parents[2] / "deploy/airflow/run_airflow.py"
DAG = "marquee_pipeline"
STEPS = ("check_api_health", "prepare_data", "train", "gate_and_promote", "batch_inference", "backup")
TIMEOUT_SCALE = "0.008"
"""Half an hour is 14 seconds. What takes longer on a busy machine is joined by the retry."""

until = partial(waiting.until, seconds=900, every=0.2)
"""Of Airflow, whose processes start one after the other."""


def processes() -> dict[Path, tuple[str, str, str]]:
    """State, parent and session of each process, by its folder of /proc."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            found[entry] = (state, parent, session)
    return found


class Handler(BaseHTTPRequestHandler):
    """Reads a request whole and answers through `answer`."""

    protocol_version = "HTTP/1.1"
    answer: Callable[["Handler", bytes], tuple[int, Mapping[str, str], bytes] | None]
    """A bound method of whoever answers."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        found = self.answer(self, body)
        if found is None:  # as if the network had lost it
            self.close_connection = True
            return
        status, headers, content = found
        self.send_response(status)
        for name in ("Content-Type", "Location", "Idempotency-Replayed", "Retry-After"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """An HTTP server in threads of its own."""

    def __init__(self, answer: Callable[[Any, bytes], Any]) -> None:
        handler = type("Own", (Handler,), {"answer": answer})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class World:
    """Marquee, the proxy before it, a webhook, and Airflow."""

    def __init__(self, folder: Path, airflow_python: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port, self.airflow_port = free_port(), free_port()
        self.told: list[str] = []
        self.alarms: list[dict[str, Any]] = []
        self.drift_looks = 0
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.change: Callable[[dict[str, Any]], str | None] = lambda run: None
        self.on_loss: Callable[[], None] = lambda: None
        self.stand_in: Callable[[str, str], dict[str, Any]] | None = None
        """What answers instead of the API."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.webhook = Server(self._hear)
        self.proxy = Server(self._pass_on)
        self._client = httpx.Client(timeout=30, trust_env=False)
        self._airflow_python = airflow_python

    def environment(self, **more: str) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        chosen = {
            "MARQUEE_API__DATABASE_SECONDS": "20",
            "MARQUEE_AUDIENCE__USERS": "40",
            "MARQUEE_HOME": str(self.home),
            "MARQUEE_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
        }
        return {**known, **chosen, **more}

    def start(self, name: str, *command: str | Path, **more: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*map(str, command)],
                env=self.environment(**more),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def marquee(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "marquee.cli", *arguments]
        ended = subprocess.run(
            command, env=self.environment(), cwd=self.folder, capture_output=True, text=True, check=True
        )
        return ended.stdout.strip()

    def start_api(self) -> None:
        self.start("api", sys.executable, "-m", "marquee.cli", "serve")

    def start_marquee(self) -> None:
        self.start_api()
        self.start("worker", sys.executable, "-m", "marquee.cli", "worker")
        until(self._api_answers, lambda: self.said("api"))

    def start_airflow(self) -> None:
        made = json.loads(self.marquee("keys", "create", "airflow", "--role", "operator", "--json"))
        self.key, self.key_id = made["key"], made["key_id"]
        (self.folder / "key").write_text(self.key)
        self.start(
            "airflow",
            self._airflow_python,
            START,
            "--marquee",
            sys.executable,
            MARQUEE_API_URL=self.proxy.url,
            MARQUEE_OPERATOR_KEY_FILE=str(self.folder / "key"),
            MARQUEE_ALERT_WEBHOOK=self.webhook.url,
            MARQUEE_SCHEDULE__CRON="0 0 29 2 *",
            MARQUEE_AIRFLOW_PORT=str(self.airflow_port),
            MARQUEE_AIRFLOW_HEALTH_SECONDS="5",
            MARQUEE_AIRFLOW_RETRY_SECONDS="1",
            MARQUEE_AIRFLOW_POLL_SECONDS="5",
            MARQUEE_AIRFLOW_DRIFT_SECONDS="3",
            MARQUEE_AIRFLOW_TIMEOUT_SCALE=TIMEOUT_SCALE,
        )
        until(
            lambda: "Ctrl-C" in self.said("airflow"),
            lambda: self.said("airflow"),
            self.processes["airflow"],
        )
        begun = str(self.processes["airflow"].pid)
        # By their sessions: what renames itself for `ps`, as Airflow does, overwrites its environment.
        self.airflow_sessions = {session for _, parent, session in processes().values() if parent == begun}
        self.password = json.loads((self.home / "airflow/passwords.json").read_text())["admin"]
        self.airflow = httpx.Client(
            base_url=f"http://127.0.0.1:{self.airflow_port}", timeout=60, trust_env=False
        )
        answer = self.airflow.post("/auth/token", json={"username": "admin", "password": self.password})
        self.airflow.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", errors="replace")

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        answer = self.airflow.get(f"/api/v2/dags/{dag_id}/dagRuns")
        found: list[dict[str, Any]] = answer.raise_for_status().json()["dag_runs"]
        return found

    def trigger(self, dag_id: str = DAG, **conf: str) -> str:
        wanted = {"logical_date": None, "conf": conf}
        answer = self.airflow.post(f"/api/v2/dags/{dag_id}/dagRuns", json=wanted)
        return str(answer.raise_for_status().json()["dag_run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        answer = self.airflow.get(f"/api/v2/dags/{DAG}/dagRuns/{quote(run_id)}")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        answer = self.airflow.get(f"/api/v2/dags/{DAG}/dagRuns/{quote(run_id)}/taskInstances")
        return {task["task_id"]: task for task in answer.raise_for_status().json()["task_instances"]}

    def ended(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The tasks of a DAG run once it has ended."""
        until(
            lambda: self.run(run_id)["state"] in ("success", "failed"),
            lambda: {name: task["state"] for name, task in self.tasks(run_id).items()},
        )
        return self.tasks(run_id)

    def states(self, run_id: str) -> list[str]:
        tasks = self.ended(run_id)
        return [tasks[step]["state"] for step in STEPS]

    def runs(self, pipeline: str) -> list[dict[str, Any]]:
        """Marquee's runs of a pipeline, asked for past the proxy."""
        answer = httpx.get(
            f"http://127.0.0.1:{self.port}/v1/runs",
            params={"pipeline": pipeline, "limit": 100},
            headers={"Authorization": f"Bearer {self.key}"},
            trust_env=False,
            timeout=30,
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()["runs"]
        return found

    def logs(self, run_id: str, task_id: str) -> str:
        folder = self.home / f"airflow/logs/dag_id={DAG}/run_id={run_id}/task_id={task_id}"
        return "".join(path.read_text() for path in sorted(folder.glob("*.log*")))

    def airflow_processes(self) -> dict[Path, str]:
        """The commands of all that `run_airflow.py` has begun, by their folders of /proc."""
        found = {}
        for entry, (state, _, session) in processes().items():
            if session in self.airflow_sessions and state != "Z":
                with suppress(OSError):
                    found[entry] = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def airflow_listens_at(self) -> set[str]:
        """The addresses, without ports and in hexadecimal, at which Airflow's processes listen."""
        held = set()
        for process in self.airflow_processes():
            with suppress(OSError):
                for descriptor in process.joinpath("fd").iterdir():
                    with suppress(OSError):
                        held.add(str(descriptor.readlink()))
        rows = [
            line.split()
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for line in Path(table).read_text().splitlines()[1:]
        ]
        listening = "0A"
        return {
            row[1].partition(":")[0] for row in rows if row[3] == listening and f"socket:[{row[9]}]" in held
        }

    def close(self) -> None:
        for name in ("airflow", "worker", "api"):
            process = self.processes.get(name)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.webhook.close()
        self.proxy.close()
        self._client.close()
        if hasattr(self, "airflow"):
            self.airflow.close()

    def _api_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return self._client.get(f"http://127.0.0.1:{self.port}/health").is_success
        return False

    def _hear(self, handler: Handler, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        self.told.append(json.loads(body)["text"])
        return 200, {}, b"ok"

    def _pass_on(self, handler: Handler, body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
        method, path = handler.command, handler.path.partition("?")[0]
        if path == "/v1/drift":
            self.drift_looks += 1
            return 200, {}, json.dumps({"alarms": self.alarms}).encode()
        if self.stand_in is not None:
            return 200, {}, json.dumps(self.stand_in(method, path)).encode()
        fault = self.fault(method, path)
        if fault == "503":
            problem = {"type": "/problems/overloaded", "title": "Overloaded", "status": 503}
            return 503, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() in ("authorization", "content-type", "idempotency-key")
        }
        url = f"http://127.0.0.1:{self.port}{handler.path}"
        try:
            answer = self._client.request(method, url, content=body, headers=headers)
        except httpx.HTTPError:
            return None
        if fault == "lose":
            self.on_loss()
            return None
        content = answer.content
        if path.startswith("/v1/runs/"):
            document = answer.json()
            if answer.is_success and self.change(document) == "hang":
                time.sleep(60)
                return None
            content = json.dumps(document).encode()
        return answer.status_code, answer.headers, content
