"""
Several API processes on one port: started together, started again when one dies, stopped together.

Each opens a listening socket of its own on the port, and the kernel spreads connections among them: of one
socket that all shared, the process that happens to wake first would take most. A process and its parent hold
the ends of a socket pair: there the child says that it is ready, or why it cannot start, and it stops itself
when the parent is gone, be it by `kill -9`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from marquee.children import MOST_DEATHS, asked_to_stop, deaths_lately, stop
from marquee.config import Settings
from marquee.errors import MarqueeError, StoreError
from marquee.telemetry import configure_logs, get_logger

__all__ = ["keep_running", "run_child"]

LOOK_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 5.0
"""How much longer than its requests a process may take to stop."""
CHILD: Final = """
from marquee.api.processes import run_child
from marquee.api.server import serve_share
run_child(serve_share)
"""


@dataclass
class _Process:
    number: int
    process: "subprocess.Popen[bytes]"
    line: Connection
    failure: tuple[type[MarqueeError], str, str | None] | None = None
    deaths: list[float] = field(default_factory=list)


def keep_running(settings: Settings, metrics: Path) -> None:
    """
    Run `settings.api.processes` API processes until this one is asked to stop.

    Args:
        metrics: folder in which they share their metrics; emptied.

    Raises:
        MarqueeError: what kept a process from starting, or that one dies again and again.
    """
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    with asked_to_stop() as asked:
        running: list[_Process] = []
        try:
            running += [_start(n, settings, metrics) for n in range(settings.api.processes)]
            while not asked.wait(LOOK_SECONDS):
                for child in running:
                    _look_at(child, settings, metrics)
        finally:
            stop([child.process for child in running], settings.api.shutdown_seconds + GRACE_SECONDS)
            for child in running:
                _forget(child, metrics)


def run_child(serve: Callable[[Settings, Callable[[], None]], None]) -> None:
    """
    What each process runs; its command-line argument is its end of the line to the parent.

    Args:
        serve: serves until the process is asked to stop, and calls back once it answers.
    """
    line = Connection(int(sys.argv[1]))
    sys.path[:], settings = line.recv()
    configure_logs(settings.log, server=True)

    def stop_with_parent() -> None:
        with contextlib.suppress(EOFError, OSError):
            line.recv()  # nothing more is ever sent
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, name="lifeline", daemon=True).start()
    try:
        serve(settings, lambda: line.send(None))
    except MarqueeError as error:
        line.send((type(error), error.message, error.fix))
        sys.exit(1)


def _start(number: int, settings: Settings, metrics: Path) -> _Process:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, str(theirs.fileno())],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C reaches the parent, which stops them in order
        )
    line = Connection(ours.detach())
    with contextlib.suppress(OSError):  # gone already: the next look finds out
        line.send((sys.path, settings))
    return _Process(number, process, line)


def _look_at(child: _Process, settings: Settings, metrics: Path) -> None:
    """Hear what a process has to say, and start it again when it has died."""
    with contextlib.suppress(EOFError, OSError):
        while child.line.poll():
            child.failure = child.line.recv()
    if child.process.poll() is None:
        return
    if child.failure is not None and not child.deaths:
        kind, message, fix = child.failure
        raise kind(message, fix=fix)
    deaths = deaths_lately(child.deaths)
    get_logger().error("api.process_died", number=child.number, code=child.process.returncode)
    _forget(child, metrics)
    if len(deaths) > MOST_DEATHS:
        raise StoreError(
            f"The API process {child.number} died {len(deaths)} times in a minute, last with the code "
            f"{child.process.returncode}.",
            fix="See its log.",
        )
    again = _start(child.number, settings, metrics)
    child.process, child.line, child.failure, child.deaths = again.process, again.line, None, deaths


def _forget(child: _Process, metrics: Path) -> None:
    """Close the line, and count what the process said of its own state no longer."""
    from prometheus_client.multiprocess import mark_process_dead

    child.line.close()
    mark_process_dead(child.process.pid, str(metrics))  # type: ignore[no-untyped-call]
