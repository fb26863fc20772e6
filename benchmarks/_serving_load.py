"""
Servers under load: one core for the server, one for who asks and for PostgreSQL.

`wrk` keeps connections busy, each request with a body or a user of its own made by a Lua script.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from string import Template
from typing import Any

from start import free_port

__all__ = [
    "CONNECTIONS",
    "LOAD_CORE",
    "Load",
    "Outcome",
    "Server",
    "Wrk",
    "get",
    "pinned",
    "without_settings",
]

CONNECTIONS = 32
SERVER_CORE, LOAD_CORE = 0, 1
TICK_SECONDS = os.sysconf("SC_CLK_TCK")

DONE = """
local function chosen(n) return math.random(n) end
local count = 0
local function counted() count = count + 1; return count end
local seed = $seed
math.randomseed(seed)
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n[%d, %d, %d, %d, %d, %d, %d]\\n', summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency.max, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """
    What is asked.

    Attributes:
        path: of the address; `$user` in it is a user between `users`.
        body: None for GET; a Lua expression that makes the body otherwise. `chosen(n)` is a random number up
            to n, `counted()` the number of the request, `seed` that of the run.
        users: first and last user id.
    """

    path: str
    body: str | None = None
    users: tuple[int, int] = (1, 1)

    def script(self, headers: Mapping[str, str], seed: int) -> str:
        """The Lua script of wrk: each request as bytes, put together without the help of wrk's own code."""
        lines = "".join(f"{name}: {value}\\r\\n" for name, value in headers.items())
        first, last = self.users
        path = f'"{self.path}"'.replace("$user", f'" .. ({first - 1} + chosen({last - first + 1})) .. "')
        if self.body is None:
            request = f'return "GET " .. {path} .. " HTTP/1.1\\r\\n{lines}\\r\\n"'
        else:
            lines += "Content-Type: application/json\\r\\n"
            request = (
                f"local body = {self.body}\n"
                f'  return "POST " .. {path} .. " HTTP/1.1\\r\\n{lines}Content-Length: " .. #body'
                ' .. "\\r\\n\\r\\n" .. body'
            )
        return f"{Template(DONE).substitute(seed=seed)}\nrequest = function()\n  {request}\nend\n"


@dataclass(frozen=True)
class Outcome:
    """
    What a load has shown.

    Attributes:
        requests: answers.
        rate: answers per second.
        p50, p99, longest: milliseconds.
        refused: answers of status 400 and above.
        broken: connections that failed, and answers that never came.
        cpu: microseconds of the server's processor per answer.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    longest: float
    refused: int
    broken: int
    cpu: float = float("nan")


class Wrk:
    """
    The load generator.

    Args:
        port: of the server.
        headers: sent with each request.
    """

    _runs = 0  # of all generators: each run asks for something else

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        if shutil.which("wrk") is None:
            sys.exit("wrk is not installed. On Debian and Ubuntu: apt install wrk")
        self.port = port
        self.headers = {"Host": f"127.0.0.1:{port}", **(headers or {})}

    def run(
        self, load: Load, seconds: float, *, connections: int = CONNECTIONS, server: "Server | None" = None
    ) -> Outcome:
        """Ask for some seconds; `server`: whose processor time is counted."""
        Wrk._runs += 1
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(load.script(self.headers, Wrk._runs))
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency"]
            before = server.cpu_seconds() if server else 0.0
            ended = subprocess.run(
                pinned([*command, "-s", script.name, f"http://127.0.0.1:{self.port}/"], LOAD_CORE),
                capture_output=True,
                text=True,
                check=False,
            )
            spent = server.cpu_seconds() - before if server else float("nan")
        if ended.returncode:
            sys.exit(f"wrk failed: {ended.stderr or ended.stdout}")
        answers, duration, *waits, refused, broken = json.loads(ended.stdout.strip().splitlines()[-1])
        p50, p99, longest = (wait / 1e3 for wait in waits)
        rate, cpu = answers / (duration / 1e6), 1e6 * spent / max(answers, 1)
        return Outcome(answers, rate, p50, p99, longest, refused, broken, cpu)


class Server:
    """
    A server of one command, pinned to its core.

    Args:
        command: that serves on `port`.
        port: where.
        environment: added to this process's own, which is without settings of Marquee.
        ready, status: the path that answers so once the server is ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        environment: Mapping[str, str],
        *,
        ready: str = "/readyz",
        status: int = 200,
    ) -> None:
        self.port = port
        self._log = tempfile.NamedTemporaryFile("wb+", suffix=".log")  # noqa: SIM115 - closed by `close`
        began = time.perf_counter()
        self._process = subprocess.Popen(
            pinned(command, SERVER_CORE),
            env=without_settings(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", **environment),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while status_of(port, ready) != status:
                self._check(began)
                time.sleep(0.005)
        except BaseException:
            self.close()
            raise
        self.ready_seconds = time.perf_counter() - began

    @classmethod
    def marquee(cls, home: Path, **environment: str) -> "Server":
        """`marquee serve` on a home."""
        port = free_port()
        return cls(
            [sys.executable, "-m", "marquee.cli", "serve"],
            port,
            {"MARQUEE_HOME": str(home), "MARQUEE_PORT": str(port), **environment},
        )

    def processes(self) -> list[int]:
        """The process and all below it."""
        found, left = [], [self._process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """Processor time of all processes so far."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK_SECONDS

    @contextlib.contextmanager
    def alone(self, others: Iterable["Server"]) -> Iterator[None]:
        """
        Hold the others still meanwhile: servers of one database hear of each other's answers.

        What came in while this one was held itself is dealt with before the block begins.
        """
        held = [each for each in others if each is not self]
        for each in held:
            each._signal(signal.SIGSTOP)
        try:
            before = self.cpu_seconds()
            while True:
                time.sleep(0.3)
                if (now := self.cpu_seconds()) - before <= 0.02:
                    break
                before = now
            yield
        finally:
            for each in held:
                each._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def private_mib(self) -> list[float]:
        """
        Memory of each process that it can share with nobody.

        Pages of a mapped bundle that no other process has looked at yet count as private in the kernel's
        books, too; they are the page cache's, and left out.
        """
        return [
            sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty")) / 1024
            for text in (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.processes())
        ]

    def close(self) -> None:
        """End it and all that it has started."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, began: float) -> None:
        if self._process.poll() is None and time.perf_counter() - began < 90:
            return
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")[-2000:]
        raise RuntimeError(f"the server did not become ready (exit {self._process.poll()}):\n{said}")


def without_settings(**more: str) -> dict[str, str]:
    """The environment of this process without settings of Marquee, and more."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}, **more}


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command on a core of its own, where there are several."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Any:
    """The parsed answer of a GET request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def status_of(port: int, path: str) -> int:
    """The status of an answer, 0 where there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()
