"""
How soon the drifts of a virtual audience raise their alarms, and how often there is an alarm without any.

For each seed an audience visits the real API for so many simulated days without drift; then, each on a copy
of the database, with one of the drifts of `marquee simulate --live URL --drift KIND`. Monitoring looks once
a day. Prints the false alarms, and for each drift the alarms that it raised and after how many events.

    python benchmarks/drift.py [--seeds 3] [--days 21] [--per-day 80] [--strength 0.8]

`--days 365` is a year, and takes some minutes for each seed.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

from _played import ALARMS, Calendar, PlayedAudience, Raised, copied, midnight
from marquee.config import LogSettings, MonitorSettings, Settings
from marquee.simulate import AudienceConfig, DriftConfig
from marquee.simulate.drift import DriftKind
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database
from marquee.telemetry import configure_logs

DRIFT_DAYS = 9
"""Two windows of the limits that Marquee ships with, at 80 visits a day, and a day or two to spare."""


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=int, default=21, help="without drift, before each")
    parser.add_argument("--per-day", type=float, default=80, help="visits of a day")
    parser.add_argument("--strength", type=float, default=0.8, help="of the drifts")
    arguments = parser.parse_args()
    configure_logs(LogSettings(level="error"))
    quiet: Counter[str] = Counter()
    raised: dict[DriftKind, list[list[Raised]]] = defaultdict(list)
    for seed in range(1, arguments.seeds + 1):
        false, found = one(seed, arguments.days, Calendar(arguments.per_day), arguments.strength)
        quiet.update(each.kind for each in false)
        for kind, alarms in found.items():
            raised[kind].append(alarms)
    days = arguments.seeds * arguments.days
    print(f"without drift: {quiet.total()} alarms in {days:,} days {dict(quiet) or ''}")
    print("drift        alarm         raised   events until it (min · median · max)   days   others")
    for kind, runs in raised.items():
        own = [next((each for each in run if each.kind == ALARMS[kind]), None) for run in runs]
        events = sorted(each.events for each in own if each is not None)
        others = Counter(each.kind for run in runs for each in run if each.kind != ALARMS[kind])
        if events:
            spread = f"{events[0]:,} · {statistics.median(events):,.0f} · {events[-1]:,}"
            median_days = statistics.median(each.day for each in own if each is not None)
        else:
            spread, median_days = "never", float("nan")
        print(
            f"{kind:12} {ALARMS[kind]:13} {len(events)} of {len(runs)}   {spread:37} "
            f"{median_days:4.0f}    {dict(others) or 'none'}"
        )


def one(
    seed: int, days: int, calendar: Calendar, strength: float
) -> tuple[list[Raised], dict[DriftKind, list[Raised]]]:
    """The alarms of so many days without drift, and after each drift."""
    audience = AudienceConfig(users=2_000, seed=seed)
    today = midnight()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), monitor=MonitorSettings(retrain=False))
        with EmbeddedServer.start(settings.paths) as server:
            with Database.open(settings) as database:
                played = PlayedAudience(settings, database, audience, calendar)
                played.begin()
                first = today - timedelta(days=days)
                asyncio.run(played.play(first, days, seed=seed))
                false = played.watch(first, days)
            found: dict[DriftKind, list[Raised]] = {}
            for kind in ALARMS:
                with copied(server, settings, "marquee", f"drift_{kind}") as database:
                    played = PlayedAudience(settings, database, audience, calendar)
                    drift = DriftConfig(kind, strength=strength)
                    asyncio.run(played.play(today, DRIFT_DAYS, seed=1_000 + seed, drift=drift))
                    found[kind] = played.watch(today, DRIFT_DAYS)
    return false, found


if __name__ == "__main__":
    main()
