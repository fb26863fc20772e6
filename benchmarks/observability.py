"""
What metrics, logs and traces cost `POST /predict`: the same server with and without them.

    python benchmarks/observability.py [--home DIR] [--seconds 10] [--rounds 5] [--only NAME,…]

One core serves, the other asks, over 32 connections, as in `serving.py`; a home prepared for that is used
again. The servers are asked in turns, in another order each round, so that what the machine does meanwhile
meets all of them alike, and those that are not asked are held still; the share is that of processor time per
answer and that of throughput, each the median of the rounds' ratios.

Machines scatter by more than what is asked for; so the same is also put together from its parts: what is
done for a request, each call timed alone, as the least of many rounds, beside the processor time of a request
in the best round of the server without them.

Without them there is no setting: nobody should run blind. The server of the comparison is started by this
script with the counting and the writing of requests replaced by nothing, which leaves the calls themselves.
Traces go to a collector of its own process that takes them and does nothing with them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _serving_checks as checks
from _serving_home import SMALL_VOCABULARY, Home
from _serving_load import Outcome, Server, Wrk, get, without_settings
from marquee.config import LogSettings
from marquee.telemetry import configure_logs
from serving import predict, prepared
from start import free_port

BASE = "without metrics and logs"
USUAL = "metrics and logs"
TRACED = "traces of all"
COLLECTOR = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector).serve_forever()
"""
BLIND = """
import sys

from prometheus_client import metrics
from prometheus_client.metrics import MetricWrapperBase


def nothing(*_, **__):
    return None


what = sys.argv.pop(1).split(",")
if "metrics" in what:
    for kind in (metrics.Counter, metrics.Gauge, metrics.Histogram):
        for name in ("inc", "dec", "set", "observe"):
            if hasattr(kind, name):
                setattr(kind, name, nothing)
if "logs" in what:
    from marquee.telemetry import logs
    import marquee.telemetry

    logs.log_request = marquee.telemetry.log_request = nothing
from marquee.cli import main

sys.argv[0] = "marquee"
main()
"""

CALLS = """
import asyncio, json, sys, time

from marquee.api.edge import _Meter
from marquee.config import LogSettings, TraceSettings
from marquee.telemetry import begin_request, configure_logs, log_request
from marquee.telemetry.traces import Traces

SAID = {"method": "POST", "path": "/predict", "status": 200, "duration_ms": 3.1, "role": "service"}
HEADERS = [(b"host", b"127.0.0.1:8000"), (b"authorization", b"Bearer 0123456789"), (b"content-length", b"97")]


def logged():
    line = begin_request(request_id="01234567-89ab-7def-8123-456789abcdef")
    line.update(SAID)
    log_request("api.request", line)


def least(call, calls=5000, rounds=30):
    took = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        took.append((time.process_time() - began) / calls * 1e6)
    return min(took)


async def main():
    configure_logs(LogSettings(format="json"))
    meter = _Meter()
    traces = Traces(TraceSettings(url=sys.argv[1], sample=0.0), "benchmark")
    found = {
        "metrics": least(lambda: meter.count("POST", "/predict", "", 200, 0.003)),
        "logs": least(logged),
        "not traced": least(lambda: traces.sampled(HEADERS)),
    }
    traces.close()
    print(json.dumps(found))


asyncio.run(main())
"""


@dataclass(frozen=True)
class Variant:
    """
    One way to run the server.

    Attributes:
        without: `metrics`, `logs`.
        sample: share of requests that are traced.
        against: what it is compared with.
        at_most: share of throughput that it may cost.
    """

    name: str
    without: tuple[str, ...] = ()
    sample: float | None = None
    against: str = BASE
    at_most: float | None = None


VARIANTS = (
    Variant(BASE, ("metrics", "logs")),
    Variant(USUAL, at_most=0.05),
    Variant("metrics alone", ("logs",)),
    Variant("logs alone", ("metrics",)),
    Variant("traces of 1 %", sample=0.01, against=USUAL, at_most=0.03),
    Variant(TRACED, sample=1.0, against=USUAL),
)
"""What is to be compared with others comes before them."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home that `serving.py` has prepared")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="times that each server is asked")
    parser.add_argument("--only", default=",".join(each.name for each in VARIANTS[1:]))
    options = parser.parse_args()
    configure_logs(LogSettings(level="warning"))
    wanted = set(options.only.split(","))
    wanted |= {each.against for each in VARIANTS if each.name in wanted}
    chosen = [each for each in VARIANTS if each.name in {BASE, *wanted}]
    with prepared(options.home) as home:
        home.put("predictor", f"mlp {SMALL_VOCABULARY}")
        found = measured(home, chosen, options.seconds, options.rounds)
    report(chosen, found)
    least = {name: min(outcome.cpu for outcome in outcomes) for name, outcomes in found.items()}
    calls = timed_calls()
    if TRACED in least and USUAL in least:
        calls["traces, 1 %"] = calls.pop("not traced") + 0.01 * max(least[TRACED] - least[USUAL], 0.0)
    add_up(calls, least[BASE])


def measured(home: Home, variants: list[Variant], seconds: float, rounds: int) -> dict[str, list[Outcome]]:
    """Variant → what each round has shown."""
    load, key = predict(SMALL_VOCABULARY), home.service_key
    found: dict[str, list[Outcome]] = {each.name: [] for each in variants}
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        servers = {each.name: stack.enter_context(started(home, each, collector)) for each in variants}
        asking = {
            name: Wrk(server.port, {"Authorization": f"Bearer {key}"}) for name, server in servers.items()
        }
        for name, server in servers.items():
            if not get(server.port, "/health")["predictor"]:
                sys.exit(f"{name}: there is no predictor")
            asking[name].run(load, min(seconds, 3.0))
        for number in range(rounds):
            turn = number % len(variants)
            for each in [*variants[turn:], *variants[:turn]]:
                with servers[each.name].alone(servers.values()):
                    outcome = asking[each.name].run(load, seconds, server=servers[each.name])
                if outcome.refused or outcome.broken:
                    sys.exit(f"{each.name}: {outcome.refused} refused, {outcome.broken} broken")
                found[each.name].append(outcome)
    return found


@contextmanager
def collecting() -> Iterator[str]:
    """The address of a collector of traces."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", COLLECTOR, str(port)]) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def started(home: Home, variant: Variant, collector: str) -> Server:
    """A server of its own on the home."""
    port = free_port()
    traces = {"MARQUEE_TRACE__URL": collector, "MARQUEE_TRACE__SAMPLE": str(variant.sample)}
    environment: dict[str, Any] = {
        "MARQUEE_HOME": str(home.settings.home),
        "MARQUEE_PORT": str(port),
        **checks.LIFTED,
        **(traces if variant.sample is not None else {}),
    }
    command = [sys.executable, "-c", BLIND, ",".join(variant.without) or "nothing", "serve"]
    return Server(command, port, environment)


def report(variants: list[Variant], found: Mapping[str, list[Outcome]]) -> None:
    """A line for each variant."""
    print(f"{'':<28}{'req/s':>9}{'CPU µs':>8}{'costs of rate':>15}{'of CPU':>8}")
    for each in variants:
        mine, base = found[each.name], found[each.against]
        rate = statistics.median(outcome.rate for outcome in mine)
        cpu = statistics.median(outcome.cpu for outcome in mine)
        line = f"{each.name:<28}{rate:>9,.0f}{cpu:>8.0f}"
        if each.name != BASE:
            of_rate = statistics.median(1 - one.rate / two.rate for one, two in zip(mine, base, strict=True))
            of_cpu = statistics.median(1 - two.cpu / one.cpu for one, two in zip(mine, base, strict=True))
            line += f"{of_rate:>15.1%}{of_cpu:>8.1%}"
            if each.at_most is not None:
                verdict = "met" if of_rate <= each.at_most else "missed"
                line += f"  at most {each.at_most:.0%} of the rate: {verdict}"
        print(line, flush=True)


def timed_calls() -> dict[str, float]:
    """Processor time in µs of what one request adds, in a process that writes its lines to a file."""
    with collecting() as collector, tempfile.TemporaryFile() as lines:
        command = [sys.executable, "-c", CALLS, collector]
        done = subprocess.run(
            command, env=without_settings(), stdout=subprocess.PIPE, stderr=lines, text=True, check=True
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def add_up(calls: Mapping[str, float], request: float) -> None:
    """Print the parts, and their share of a request."""
    print(f"\nthe calls alone, of {request:.0f} µs a request:")
    for name, took in calls.items():
        print(f"{name:<28}{took:>8.2f} µs{took / request:>8.1%}")
    both = calls["metrics"] + calls["logs"]
    print(f"{USUAL:<28}{both:>8.2f} µs{both / request:>8.1%}")


if __name__ == "__main__":
    main()
