"""
What a change does to the quality of models and to the cost of making and serving them.

`measure` trains and serves on the sample with the code of two checkouts, on one machine and in turns, so that
what differs is the code; each is run by the Python of its own `.venv` (`make setup`). `compare` writes what
it found as a table for people. It trusts nothing but numbers, since what it reads may come from anyone.

    python deploy/ci/pr_metrics.py measure base=../base head=. --output metrics.json [--rounds 3]
    python deploy/ci/pr_metrics.py compare metrics.json

Linux only (it reads /proc), Python ≥ 3.11, no packages.
"""

import argparse
import http.client
import json
import math
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = ("popularity", "item_knn", "ease")
MEASURES = ("NDCG@10", "recall@20", "coverage@10")
OF_MODELS = (f"{model} {name}" for model in MODELS for name in MEASURES)
QUALITY = ("mlp accuracy", "mlp cross-entropy", *OF_MODELS)
LOWER_IS_BETTER = ("mlp cross-entropy",)
COST = {
    "pipeline": ("whole pipeline with `mlp`, processor", "s"),
    "start": ("`marquee serve` until ready, wall clock", "s"),
    "predict": ("`POST /predict`, processor per request", "µs"),
    "recommendations": ("`GET /v1/users/…/recommendations`, processor per request", "µs"),
}
PREDICT = b'{"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 191.7}'
DEADLINE_SECONDS = 60
MAX_BYTES = 100_000
UNTHROTTLED = {
    "MARQUEE_API__RATE_PER_ADDRESS": "1000000000/second",
    "MARQUEE_API__RATE_PER_KEY": "1000000000/second",
}

Numbers = dict[str, dict[str, list[float]]]
"""Kind (quality or cost) → name → one number for each round."""


def main() -> None:
    """Measure, or compare what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("trees", nargs=2, metavar="NAME=FOLDER", help="first the base, then the change")
    measuring.add_argument("--output", type=Path, required=True)
    measuring.add_argument("--rounds", type=int, default=3)
    measuring.add_argument("--requests", type=int, default=2000)
    commands.add_parser("compare").add_argument("file", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        try:
            sys.stdout.write(table(*read(arguments.file)))
        except ValueError as error:
            sys.exit(f"{arguments.file} does not hold what `measure` writes: {error}")
        return
    trees = dict(tree.split("=", 1) for tree in arguments.trees)
    found = measure([Path(path).resolve() for path in trees.values()], arguments.rounds, arguments.requests)
    arguments.output.write_text(json.dumps(dict(zip(("base", "head"), found, strict=True))), "utf-8")


def measure(trees: Sequence[Path], rounds: int, requests: int) -> list[Numbers]:
    """Numbers of each tree; trees take turns within a round, and begin it in turns."""
    found: list[Numbers] = [{"quality": {}, "cost": {}} for _ in trees]
    for turn in range(rounds):
        order = list(zip(trees, found, strict=True))
        for tree, numbers in order[:: -1 if turn % 2 else 1]:
            for kind, values in one_round(tree, requests).items():
                for name, value in values.items():
                    numbers[kind].setdefault(name, []).append(value)
    return found


def one_round(tree: Path, requests: int) -> dict[str, dict[str, float]]:
    """Train, evaluate and serve once, in a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        before = _processor_seconds()
        trained = _marquee(tree, home, "pipeline", "run", "--model", "mlp", "--json")["train"]
        cost = {"pipeline": _processor_seconds() - before}
        quality = {"mlp accuracy": trained["test_accuracy"], "mlp cross-entropy": trained["test_loss"]}
        evaluated = _marquee(tree, home, "evaluate", "--models", ",".join(MODELS), "--no-track", "--json")
        for report in evaluated:
            if report["kind"] == "model" and report["model"] in MODELS:
                quality[f"{report['model']} NDCG@10"] = report["ndcg_at_10"]
                quality[f"{report['model']} recall@20"] = report["recall_at_20"]
                quality[f"{report['model']} coverage@10"] = report["coverage_at_10"]
        return {"quality": quality, "cost": cost | serving(tree, home, requests)}


def serving(tree: Path, home: Path, requests: int) -> dict[str, float]:
    """
    What the API costs.

    Args:
        requests: of each kind; a tenth more before them, to warm up.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    begin = time.perf_counter()
    command = [_python(tree), "-m", "marquee.cli", "serve", "--port", str(port)]
    log = home.parent / "serve.log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=_environment(home), stdout=file, stderr=file) as server,
    ):
        try:
            if not _is_ready(port, server):
                raise RuntimeError(f"the API did not become ready:\n{log.read_text()[-2000:]}")
            cost = {"start": time.perf_counter() - begin}
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
            json_type = {"Content-Type": "application/json"}
            for name, request in (
                ("predict", ("POST", "/predict", PREDICT, json_type)),
                ("recommendations", ("GET", "/v1/users/1/recommendations?k=10", None, {})),
            ):
                _ask(connection, request, requests // 10)
                before = _processor_seconds_of(server.pid)
                _ask(connection, request, requests)
                cost[name] = (_processor_seconds_of(server.pid) - before) / requests * 1e6
            connection.close()
        finally:
            server.terminate()
    return cost


def read(file: Path) -> tuple[Numbers, Numbers]:
    """
    Numbers of the base and of the change.

    Raises:
        ValueError: the file holds something else.
    """
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict) or set(found) != {"base", "head"}:
        raise ValueError("expected base and head")
    return _numbers(found["base"]), _numbers(found["head"])


def _numbers(found: Any) -> Numbers:
    names = {"quality": QUALITY, "cost": tuple(COST)}
    if not isinstance(found, dict) or set(found) != set(names):
        raise ValueError("expected quality and cost")
    for kind, values in found.items():
        if not isinstance(values, dict) or not set(values) <= set(names[kind]):
            raise ValueError(f"a name that is none of {kind}")
        for name, rounds in values.items():
            if not (isinstance(rounds, list) and 0 < len(rounds) <= 100):
                raise ValueError(f"{name} has no rounds")
            if not all(isinstance(one, int | float) and math.isfinite(one) for one in rounds):
                raise ValueError(f"{name} is not a number")
    return found


def table(base: Numbers, head: Numbers) -> str:
    """What changed, in Markdown."""
    rounds = max(len(values) for numbers in (base, head) for values in numbers["cost"].values())
    lines = ["### Metrics of this change, on the sample", ""]
    lines += ["| Quality | base | this | difference |", "|---|---:|---:|---:|"]
    for name in QUALITY:
        if name in base["quality"] and name in head["quality"]:
            before, after = (statistics.median(numbers["quality"][name]) for numbers in (base, head))
            better = (after < before) if name in LOWER_IS_BETTER else (after > before)
            verdict = (
                "0" if after == before else f"{after - before:+.4f} {'better' if better else '**worse**'}"
            )
            lines.append(f"| {name} | {before:.4f} | {after:.4f} | {verdict} |")
    lines += ["", "| Cost | base | this | ratio |", "|---|---:|---:|---:|"]
    for key, (name, unit) in COST.items():
        if key in base["cost"] and key in head["cost"]:
            lines.append(_cost_row(name, unit, base["cost"][key], head["cost"][key]))
    lines += [
        "",
        f"Medians of {rounds} {'round' if rounds == 1 else 'rounds'}, base and change in turns on one "
        "machine. Quality repeats exactly from a seed, so any difference comes of the change; a cost is "
        "called better or worse where no round of one reaches into the rounds of the other. "
        "`python deploy/ci/pr_metrics.py measure base=FOLDER head=FOLDER --output metrics.json` repeats it.",
    ]
    return "\n".join(lines) + "\n"


def _cost_row(name: str, unit: str, base: list[float], head: list[float]) -> str:
    before, after = statistics.median(base), statistics.median(head)
    apart = len(base) > 1 and (max(head) < min(base) or min(head) > max(base))
    ratio = after / before if before else math.nan
    verdict = f"{ratio:.2f} ×" + ((" **worse**" if after > before else " better") if apart else "")
    return f"| {name} | {_range(base, unit)} | {_range(head, unit)} | {verdict} |"


def _range(values: list[float], unit: str) -> str:
    digits = 2 if unit == "s" else 0
    middle = f"{statistics.median(values):.{digits}f} {unit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _python(tree: Path) -> str:
    own = tree / ".venv" / "bin" / "python"
    return str(own if own.exists() else sys.executable)


def _environment(home: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return {**kept, **UNTHROTTLED, "MARQUEE_HOME": str(home), "OMP_NUM_THREADS": "1"}


def _marquee(tree: Path, home: Path, *arguments: str) -> Any:
    command = [_python(tree), "-m", "marquee.cli", *arguments]
    ended = subprocess.run(command, env=_environment(home), check=True, stdout=subprocess.PIPE)
    return json.loads(ended.stdout)


def _ask(connection: http.client.HTTPConnection, request: tuple[Any, ...], times: int) -> None:
    for _ in range(times):
        connection.request(*request)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{request[0]} {request[1]} was answered {answer.status}: {body[:200]!r}")


def _is_ready(port: int, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    return False


def _processor_seconds() -> float:
    """Used so far by the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor_seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
