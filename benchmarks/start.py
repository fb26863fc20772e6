"""
How soon Marquee answers when it is started again.

Prints the median time from `marquee up` on a home that has been built until `/health` says ok, against the
time of a bare `python -c "import fastapi, uvicorn, sqlalchemy"`, which no service of this kind can do
without; then the parts: `marquee --help`, `serve` alone, and the stop by Ctrl-C.
Runs alternate, as a machine's pace drifts.

    python benchmarks/start.py [--rounds 3]
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path

BASELINE = "import fastapi, uvicorn, sqlalchemy"
TARGET_SECONDS = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        started(home, "up")  # builds it
        for _ in range(arguments.rounds):
            seconds["bare imports"].append(timed(home, "-c", BASELINE))
            seconds["marquee --help"].append(timed(home, "-m", "marquee.cli", "--help"))
            ready, stopped = started(home, "up")
            seconds["marquee up"].append(ready)
            seconds["Ctrl-C of up"].append(stopped)
            seconds["marquee serve"].append(started(home, "serve")[0])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:16} {median:6.2f} s   {median / medians['bare imports']:5.2f} × the bare imports")
    verdict = "met" if medians["marquee up"] <= TARGET_SECONDS else "missed"
    print(f"ready within {TARGET_SECONDS:g} s: {verdict}")


def timed(home: Path, *arguments: str) -> float:
    """Seconds for a Python command that ends."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment(home, 0), check=True, capture_output=True)
    return time.perf_counter() - begin


def started(home: Path, verb: str) -> tuple[float, float]:
    """Seconds until `/health` is ok, and seconds to stop."""
    port = free_port()
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "marquee.cli", verb],
        env=environment(home, port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not healthy(port):
        if process.poll() is not None:
            sys.exit(f"marquee {verb} ended with {process.returncode}")
        time.sleep(0.01)
    ready = time.perf_counter() - begin
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    process.wait()
    return ready, time.perf_counter() - begin


def healthy(port: int) -> bool:
    """Whether the API says that all is well."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return bool(json.loads(connection.getresponse().read())["status"] == "ok")
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def environment(home: Path, port: int) -> dict[str, str]:
    """That of this process, without settings of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return {**kept, "MARQUEE_HOME": str(home), **({"MARQUEE_PORT": str(port)} if port else {})}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
