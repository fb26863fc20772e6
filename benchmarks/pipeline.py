"""
How long the whole pipeline takes on the default sample: ingest, audience, training, gate, inference.

Runs `marquee pipeline run --model mlp` on an empty home (a first `marquee up` trains EASE too), the gate
included, and prints the seconds of each step, of the whole, and of the processor: on a busy machine only the
last says anything.

    python benchmarks/pipeline.py [--rounds 1]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

TARGET_SECONDS = 15.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    rounds = [whole_pipeline() for _ in range(parser.parse_args().rounds)]
    medians = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    for name, seconds in medians.items():
        print(f"{name:12} {seconds:6.2f} s")
    print(f"within {TARGET_SECONDS:g} s: {'met' if medians['wall clock'] <= TARGET_SECONDS else 'missed'}")


def whole_pipeline() -> dict[str, float]:
    """Seconds by step, of the wall clock and of the processor, from an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        begin, before = time.perf_counter(), processor_seconds()
        marquee(home, "pipeline", "run", "--model", "mlp", "--json")
        wall, processor = time.perf_counter() - begin, processor_seconds() - before
        steps = {run["pipeline"]: lasted(run) for run in reversed(marquee(home, "runs", "--json"))}
    return {**steps, "wall clock": wall, "processor": processor}


def marquee(home: Path, *arguments: str) -> Any:
    """What a command prints as JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "marquee.cli", *arguments],
        env={**kept, "MARQUEE_HOME": str(home)},
        check=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(ended.stdout)


def lasted(run: dict[str, Any]) -> float:
    """Seconds from the start of a run to its end."""
    begin, end = (datetime.fromisoformat(run[name]) for name in ("started_at", "finished_at"))
    return (end - begin).total_seconds()


def processor_seconds() -> float:
    """Used so far by the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
