"""
Airflow on this machine, for Marquee's pipelines: `make airflow`.

Starts the api-server, scheduler, dag-processor and triggerer as processes of their own against PostgreSQL,
all on the loopback, and stops them on Ctrl-C or SIGTERM. Needs nothing but Python; it is run by the one that
has Airflow.

What ends the processes is a guard, a process that waits until this one is gone, be it by `kill -9`. Nobody
else ends them, so that there is one way to stop and it is used every time.
"""

import argparse
import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).resolve().parents[2]
DAGS = REPOSITORY / "dags"
FIRST_DAG = "marquee_pipeline"
HOST = "127.0.0.1"
USER = "admin"
# The log servers of scheduler and triggerer cannot be kept off the network, and on one machine nobody needs
# them: the api-server reads the same files.
PROCESSES: dict[str, tuple[str, ...]] = {
    "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
FOR_DAGS = ("MARQUEE_SCHEDULE__", "MARQUEE_AIRFLOW_", "MARQUEE_ALERT_WEBHOOK")
"""What of Marquee's settings reaches the tasks: its secrets are no business of theirs."""
READY_SECONDS = 120
STOP_SECONDS = 15


class StartError(Exception):
    """Something that the person who starts this can mend."""


def main() -> None:
    """Start everything, say where it is, and wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--marquee", type=Path, help="the Python that has Marquee")
    parser.add_argument("--guard", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.guard:
        guard()
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with marquee_side(arguments.marquee) as marquee:
            run(marquee, arguments.marquee, stop)
    except StartError as error:
        sys.exit(str(error))


def run(marquee: Mapping[str, str], python: Path | None, stop: threading.Event) -> None:
    """Everything between the database's start and its end."""
    home = Path(marquee["home"]) / "airflow"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    port = int(os.environ.get("MARQUEE_AIRFLOW_PORT", "8080"))
    require_free(port)
    connect(home, marquee["api"], python)
    password = json.loads(keep(home / "passwords.json", lambda: json.dumps({USER: token()})))[USER]
    environment = settings(home, port, marquee["database"])
    began = time.monotonic()
    with (logs / "migrate.log").open("wb") as log:
        command = [airflow(), "db", "migrate"]
        if subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode:
            raise StartError(f"Airflow's database cannot be migrated. See {log.name}")
    with guarded() as watch:
        children = {name: spawn(name, logs, environment, watch) for name in PROCESSES}
        url = f"http://{HOST}:{port}"
        if wait_for_dag(url, password, children, logs, stop):
            seconds = time.monotonic() - began
            say(f"Airflow  {url}  ({FIRST_DAG} visible after {seconds:.1f} s; {memory(children)} MiB)")
            say(f"User     {USER}, password {password}")
            say(f"Marquee  {marquee['api']}")
            say("Ctrl-C stops everything.")
        while not stop.wait(0.5):
            check(children, logs)
        say("Stopping …")


def settings(home: Path, port: int, database: str) -> dict[str, str]:
    """The environment of all of Airflow's processes; an AIRFLOW__ variable of one's own wins."""
    url = f"http://{HOST}:{port}"
    _, _, where = database.partition("://")
    connection = f"postgresql+psycopg://{where}"
    chosen = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": keep(home / "session.key", token),
        "AIRFLOW__API_AUTH__JWT_SECRET": keep(home / "jwt.key", token),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": keep(home / "fernet.key", fernet_key),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": connection,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": connection,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(
            {"connections_file_path": str(home / "connections.json")}
        ),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    passed = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MARQUEE_") or name.startswith(FOR_DAGS)
    }
    unproxied = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST]))
    # The triggerer finds triggers by their module, wherever DAGs come from.
    return {**chosen, **passed, "NO_PROXY": unproxied, "no_proxy": unproxied, "PYTHONPATH": str(DAGS)}


# --- Marquee's side -----------------------------------------------------------------------------------


@contextlib.contextmanager
def marquee_side(python: Path | None) -> Iterator[Mapping[str, str]]:
    """
    Where Marquee's home, its API and Airflow's database are.

    With MARQUEE_AIRFLOW_DATABASE_URL, MARQUEE_API_URL and MARQUEE_OPERATOR_KEY_FILE nothing of Marquee has to
    be installed here.
    """
    database, api = os.environ.get("MARQUEE_AIRFLOW_DATABASE_URL"), os.environ.get("MARQUEE_API_URL")
    if database and api:
        home = str(Path(os.environ.get("MARQUEE_HOME", "~/.marquee")).expanduser())
        yield {"home": home, "database": database, "api": api.rstrip("/")}
        return
    if python is None:
        raise StartError(
            "Set MARQUEE_AIRFLOW_DATABASE_URL and MARQUEE_API_URL, or pass --marquee .venv/bin/python."
        )
    command = [python, Path(__file__).with_name("database.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        line = holder.stdout.readline()
        if not line:
            raise StartError("There is no database for Airflow.")
        found: dict[str, str] = json.loads(line)
        if database:
            found["database"] = database
        if api:
            found["api"] = api.rstrip("/")
        try:
            yield found
        finally:
            holder.stdin.close()


def connect(home: Path, api: str, python: Path | None) -> None:
    """Write the connection `marquee_api`: read anew by each task, so that a new key needs no restart."""
    given = os.environ.get("MARQUEE_OPERATOR_KEY_FILE")
    if given:
        key = Path(given).expanduser().read_text().strip()
    elif os.environ.get("MARQUEE_API_URL") or python is None:
        raise StartError(
            "MARQUEE_OPERATOR_KEY_FILE must name a file with an operator key of the server that "
            "MARQUEE_API_URL names; there, `marquee keys create airflow --role operator` makes one."
        )
    else:
        key = keep(home / "operator.key", lambda: new_key(python))
    connection = {"conn_type": "http", "host": api, "password": key}
    write(home / "connections.json", json.dumps({"marquee_api": connection}))


def new_key(python: Path) -> str:
    """An operator key for Airflow."""
    command = [str(python), "-m", "marquee.cli", "keys", "create", "airflow", "--role", "operator"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise StartError(f"No key could be made: {made.stderr.strip()}")
    say("An operator key was made for Airflow. If it is the first key, the API asks everybody for one from")
    say("now on: `marquee keys create NAME --role operator` makes yours.")
    return str(made.stdout.strip())


# --- processes ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[IO[str]]:
    """A pipe to the guard: it ends all sessions that are written to it once the pipe closes."""
    command = [sys.executable, __file__, "--guard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdin is not None
        try:
            yield process.stdin
        finally:
            process.stdin.close()


def guard() -> None:
    """Wait for the end of standard input; then end every session that was named there."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sessions = {int(line) for line in sys.stdin}
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        for pid in members(sessions):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while members(sessions) and time.monotonic() < deadline:
            time.sleep(0.05)


def members(sessions: Collection[int]) -> list[int]:
    """The living processes of sessions: those, too, that made groups of their own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(session) in sessions:
                found.append(int(entry.name))
    return found


def memory(children: Mapping[str, "subprocess.Popen[bytes]"]) -> int:
    """MiB that all of it takes; what processes share is counted once."""
    total = 0
    for pid in members({child.pid for child in children.values()}):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total // 1024


def spawn(name: str, logs: Path, environment: Mapping[str, str], watch: IO[str]) -> "subprocess.Popen[bytes]":
    """One of Airflow's processes, in a session of its own: Ctrl-C reaches this process alone."""
    with (logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [airflow(), name, *PROCESSES[name]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    watch.write(f"{process.pid}\n")
    watch.flush()
    return process


def check(children: Mapping[str, "subprocess.Popen[bytes]"], logs: Path) -> None:
    """
    Look whether all of them live.

    Raises:
        StartError: one has ended.
    """
    for name, child in children.items():
        if child.poll() is not None:
            log = logs / f"{name}.log"
            lines = log.read_text("utf-8", errors="replace").strip().splitlines()
            raise StartError(f"The {name} has ended: {lines[-1] if lines else 'it said nothing'}. See {log}")


def wait_for_dag(
    url: str,
    password: str,
    children: Mapping[str, "subprocess.Popen[bytes]"],
    logs: Path,
    stop: threading.Event,
) -> bool:
    """Wait until the api-server shows the pipeline; False when told to stop."""
    deadline = time.monotonic() + READY_SECONDS
    while not stop.wait(0.25):
        check(children, logs)
        with contextlib.suppress(OSError, ValueError):
            held = ask(f"{url}/auth/token", body={"username": USER, "password": password})["access_token"]
            if ask(f"{url}/api/v2/dags/{FIRST_DAG}", bearer=held)["dag_id"] == FIRST_DAG:
                return True
        if time.monotonic() > deadline:
            raise StartError(f"Airflow shows no {FIRST_DAG} after {READY_SECONDS} s. See {logs}")
    return False


def ask(url: str, *, body: Mapping[str, str] | None = None, bearer: str | None = None) -> dict[str, Any]:
    """What the api-server answers; a proxy of the environment is not asked."""
    headers = {"Content-Type": "application/json"}
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


# --- small things -------------------------------------------------------------------------------------


def airflow() -> str:
    """The program beside the Python that runs this."""
    return str(Path(sys.executable).with_name("airflow"))


def require_free(port: int) -> None:
    """
    Look whether a port is free.

    Raises:
        StartError: it is not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StartError(
                f"{HOST}:{port}: {error.strerror}. Set MARQUEE_AIRFLOW_PORT to a free port."
            ) from None


def keep(path: Path, make: Callable[[], str]) -> str:
    """The content of a file that only its owner reads; made on the first start."""
    if not path.exists():
        write(path, make())
    return path.read_text().strip()


def write(path: Path, content: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content + "\n")
    temporary.replace(path)


def token() -> str:
    """A secret."""
    return secrets.token_urlsafe(32)


def fernet_key() -> str:
    """A key for what Airflow encrypts in its database."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def say(text: str) -> None:
    """Tell whoever has started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
