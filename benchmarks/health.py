"""
Whether the API keeps answering while a model is trained.

Starts `marquee up` on a home of its own, starts a training over HTTP, and asks `/health` until it has ended:
prints the slowest and the median answer, beside those of the same server at rest.

    python benchmarks/health.py
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from start import environment, free_port, healthy

PAUSE_SECONDS = 0.02
TARGET_SECONDS = 0.05


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "marquee.cli", "up"],
            env=environment(Path(folder) / "home", port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not healthy(port):
                if process.poll() is not None:
                    sys.exit(f"marquee up ended with {process.returncode}")
                time.sleep(0.1)
            rest = [asked(port) for _ in range(200)]
            run = call(port, "POST", "/run/train?wait=false", b'{"model_name": "mlp"}')["run_id"]
            training: list[float] = []
            while call(port, "GET", f"/v1/runs/{run}")["status"] in {"queued", "running"}:
                training += [asked(port) for _ in range(20)]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    for name, times in (("at rest", rest), ("while training", training)):
        print(
            f"/health {name:15} {len(times):5} answers, median {1000 * statistics.median(times):6.1f} ms, "
            f"slowest {1000 * max(times):6.1f} ms"
        )
    print(f"within {1000 * TARGET_SECONDS:.0f} ms: {'met' if max(training) <= TARGET_SECONDS else 'missed'}")


def asked(port: int) -> float:
    """Seconds that one answer of `/health` took."""
    time.sleep(PAUSE_SECONDS)
    begin = time.perf_counter()
    if not healthy(port):
        sys.exit("/health did not say ok")
    return time.perf_counter() - begin


def call(port: int, method: str, path: str, body: bytes | None = None) -> Any:
    """The parsed answer of a request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


if __name__ == "__main__":
    main()
