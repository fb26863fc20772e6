"""
The processes behind `marquee up` and `marquee ops up`: started together, restarted when one dies, stopped
together.

Children run in sessions of their own, so that Ctrl-C reaches the supervisor alone and it can stop them in
order. Marquee's own hold the reading end of a pipe: when the supervisor is gone, even by `kill -9`, the pipe
closes and the child stops itself. Programs that know of no pipe are stopped by the kernel, where it is Linux.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from marquee.children import MOST_DEATHS, deaths_lately, stop
from marquee.errors import ConfigError, StoreError
from marquee.telemetry import get_logger

__all__ = ["Supervisor", "require_free_port", "stop_with_parent"]

STOP_SECONDS = 15
"""How long a child may take to finish what it is doing before it is killed."""


@dataclass
class Child:
    """A process that is kept running."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    folder: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None
    deaths: list[float] = field(default_factory=list)


class Supervisor:
    """
    Runs `marquee` subcommands and other programs as children.

    Args:
        logs: directory for the children's output, one file each.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []
        self._read_end, self._write_end = os.pipe()
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *arguments: str) -> None:
        """Start `marquee ARGUMENTS…` and keep it running."""
        command = [sys.executable, "-m", "marquee.cli", *arguments, "--lifeline", str(self._read_end)]
        self._add(Child(name, command, self._log(name), {}))

    def start_program(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path
    ) -> None:
        """
        Start a program that is not ours and keep it running; to be called from the main thread.

        Args:
            environment: variables besides those of this process.
            folder: where it runs.
        """
        # The signal comes when the thread ends that started the program: the main one, with its process.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []
        self._add(Child(name, [*guard, *command], self._log(name), environment, folder))

    def check(self) -> None:
        """
        Restart children that died.

        Raises:
            StoreError: one dies again and again.
        """
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            child.deaths = deaths_lately(child.deaths)
            get_logger().warning("up.child_died", child=child.name, code=child.process.returncode)
            if len(child.deaths) > MOST_DEATHS:
                raise StoreError(
                    f"The {child.name} died {len(child.deaths)} times in a minute: {_last_line(child.log)}",
                    fix=f"See {child.log}.",
                )
            self._spawn(child)

    def stop_children(self) -> None:
        """Ask all children to stop, last started first; kill those that do not in time."""
        stop([c.process for c in reversed(self._children) if c.process is not None], STOP_SECONDS)
        self._children.clear()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_children()
        os.close(self._write_end)
        os.close(self._read_end)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _add(self, child: Child) -> None:
        self._children.append(child)
        self._spawn(child)

    def _spawn(self, child: Child) -> None:
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.command,
                env={**os.environ, **child.environment},
                cwd=child.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._read_end,),
                start_new_session=True,
            )


def stop_with_parent(lifeline: int | None) -> None:
    """
    In a child: be terminated when the supervisor is gone.

    Args:
        lifeline: the inherited reading end of its pipe; None outside a supervisor.
    """
    if lifeline is None:
        return

    def wait() -> None:
        os.read(lifeline, 1)  # returns at end of file only: nobody ever writes
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def require_free_port(host: str, port: int, setting: str) -> None:
    """
    Find out before anything is started.

    Raises:
        ConfigError: something else listens there; it names the setting.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {error.strerror}.",
                fix=f"Stop what listens there, or set {setting} to another port.",
            ) from None


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
