"""
A look: add up what came in, measure the answers, look for drift, raise and resolve alarms.

An alarm is raised when a signal has shown drift in two windows, and no other kind explains it. It is
resolved when neither window shows it any more, or when another champion has taken over: that one was trained
on what the alarm was about, so its reference begins there. A broken feed and skew are not mended by training;
while a feed is broken nothing is trained.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from marquee.config import MonitorSettings, Settings
from marquee.errors import ConflictError, StoreError
from marquee.jobs import Queue
from marquee.monitoring.feeds import quarantine_share
from marquee.monitoring.outcomes import plain
from marquee.monitoring.quality import Quality, measure
from marquee.monitoring.series import Bounds, Facts, Signal
from marquee.monitoring.signals import EXPLAINS, signals
from marquee.monitoring.skew import Skew, replay, vocabulary
from marquee.monitoring.sums import ITEMS, Calendar, Collected, collect, horizon
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, monitoring, monitoring_rows
from marquee.store.repositories.deployments import Deployment
from marquee.store.repositories.monitoring import Alarm, DriftKind
from marquee.telemetry import get_logger

__all__ = ["Look", "look"]

MENDED_BY_TRAINING: Final[tuple[DriftKind, ...]] = ("taste", "new_releases", "popularity", "scores")
LEAST_REPLAYED: Final = 200
"""Places of each half of the replayed answers from which skew is believed."""
RESOLVED: Final = 100
"""Alarms that are looked back at."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has shown, and what was done about it."""

    measured_at: datetime
    seconds: float
    quality: Quality
    signals: tuple[Signal, ...]
    skew: Skew | None
    collected: Collected
    alarms: tuple[Alarm, ...]
    raised: tuple[DriftKind, ...]
    resolved: tuple[DriftKind, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they are kept."""
        made: dict[str, Any] = plain(
            {
                "quality": self.quality.as_json(),
                "drift": [_as_json(signal) for signal in self.signals],
                "skew": None if self.skew is None else self.skew.as_json(),
                "events": self.collected.events,
                "answers": self.collected.answers,
                "waiting": self.collected.waiting,
                "raised": list(self.raised),
                "resolved": list(self.resolved),
            }
        )
        return made


def look(settings: Settings, database: Database, objects: ObjectStore, now: datetime) -> Look:
    """
    Look now.

    Args:
        now: days that have ended by then are compared.
    """
    began = time.perf_counter()
    wanted = settings.monitor
    calendar = Calendar(wanted.day_minutes)
    facts = monitoring_rows.facts(database)
    collected = collect(database, wanted, now, facts["item_id"].to_numpy())
    with database.begin() as connection:
        champion = deployments.current(connection, "champion")
        since = calendar.start(horizon(wanted, calendar, now))
        days = monitoring.days(connection, since, now)
        bounds = _bounds(monitoring.alarms(connection, limit=RESOLVED), calendar)
    skew = _skew(settings, database, objects, champion, now)
    known = _known(settings, objects, champion)
    found = signals(
        days,
        Facts(facts, known),
        wanted,
        now,
        bundle=None if champion is None else champion.bundle,
        bounds=bounds,
    )
    if skew is not None:
        found.append(_skew_signal(skew, wanted))
    watched: dict[str, float] = {}
    for (_, name), counts in days.items():
        if name == ITEMS:
            for key, count in counts.items():
                watched[key] = watched.get(key, 0) + count
    with database.begin() as connection:
        monitoring.hold(connection)
        quality = measure(
            connection, collected.recent, watched, now, quarantine_share=quarantine_share(days, calendar)
        )
        raised, resolved = _judge(connection, found, champion, now, calendar)
        if wanted.retrain:
            _retrain(connection)
        opened = monitoring.alarms(connection, open_only=True)
        made = Look(
            now,
            time.perf_counter() - began,
            quality,
            tuple(found),
            skew,
            collected,
            tuple(opened),
            tuple(raised),
            tuple(resolved),
        )
        monitoring.append(
            connection, now, made.seconds, made.as_json(), keep=timedelta(days=wanted.keep_days)
        )
    for kind in raised:
        evidence = next(alarm.evidence for alarm in opened if alarm.kind == kind)
        get_logger().warning("monitor.drift", kind=kind, **_told(evidence))
    for kind in resolved:
        get_logger().info("monitor.drift_resolved", kind=kind)
    return made


def _judge(
    connection: Connection,
    found: Sequence[Signal],
    champion: Deployment | None,
    now: datetime,
    calendar: Calendar,
) -> tuple[list[DriftKind], list[DriftKind]]:
    """Raise and resolve alarms; kinds that were."""
    bundle = None if champion is None else champion.bundle
    opened = {alarm.kind: alarm for alarm in monitoring.alarms(connection, open_only=True)}
    resolved: list[DriftKind] = []
    for kind, alarm in list(opened.items()):
        mine = [signal for signal in found if signal.kind == kind]
        reason = None
        if kind in MENDED_BY_TRAINING and alarm.evidence["bundle"] != bundle:
            reason = "retrained"
        elif mine and all(signal.quiet for signal in mine):
            reason = "subsided"
        if reason is not None:
            monitoring.resolve(connection, alarm, now, {**alarm.evidence, "resolved": reason})
            resolved.append(kind)
            del opened[kind]
    alarming = {signal.kind: signal for signal in reversed(found) if signal.alarming}
    # A retraining that has just come moves the reference: what it says is for the next look.
    retrained = [kind for kind in resolved if kind in MENDED_BY_TRAINING]
    # What only the newest window shows so far may be the cause of what both show: it is waited for.
    suspected = {signal.kind for signal in found if any(signal.exceeded[:1])}
    explained = {
        other for kind, others in EXPLAINS.items() if kind in suspected or kind in opened for other in others
    }
    raised: list[DriftKind] = []
    for kind, signal in alarming.items():
        if kind in opened or kind in explained or kind in retrained:
            continue
        evidence = plain({**_as_json(signal), "bundle": bundle, "since": _since(signal, calendar)})
        monitoring.raise_alarm(connection, kind, now, evidence)
        raised.append(kind)
    return raised, resolved


def _retrain(connection: Connection) -> None:
    """Queue a run of the whole pipeline for the alarms that none was queued for, unless one is under way."""
    opened = monitoring.alarms(connection, open_only=True)
    if any(alarm.kind == "feed" for alarm in opened):
        return
    waiting = [alarm for alarm in opened if alarm.kind in MENDED_BY_TRAINING and alarm.run_id is None]
    if not waiting:
        return
    try:
        with connection.begin_nested():
            run = Queue().submit(connection, "pipeline", {"drift_alarm": waiting[-1].alarm_id})
    except ConflictError:
        return  # one is under way; what it trains on may be of before: the next look asks again
    for alarm in waiting:
        monitoring.set_run(connection, alarm.alarm_id, run.run_id)


def _bounds(known: Sequence[Alarm], calendar: Calendar) -> dict[DriftKind, Bounds]:
    """Kind → its reference begins with the drift that the champion was trained on, and ends before one."""
    made: dict[DriftKind, Bounds] = {}
    for alarm in known:
        if alarm.evidence["since"] is None or alarm.kind in made:
            continue  # only the newest of a kind counts
        day = calendar.day(datetime.fromisoformat(alarm.evidence["since"]))
        if alarm.resolved_at is None:
            made[alarm.kind] = Bounds(until=day)
        elif alarm.evidence["resolved"] == "retrained":
            made[alarm.kind] = Bounds(since=day)
    return made


def _skew(
    settings: Settings, database: Database, objects: ObjectStore, champion: Deployment | None, now: datetime
) -> Skew | None:
    if champion is None or not settings.monitor.replayed:
        return None
    try:
        return replay(settings, database, objects, champion, now)
    except StoreError as error:
        get_logger().warning("monitor.not_replayed", bundle=champion.bundle, error=str(error))
        return None


def _known(settings: Settings, objects: ObjectStore, champion: Deployment | None) -> Any:
    if champion is None:
        return None
    try:
        return vocabulary(settings, objects, champion)
    except StoreError as error:
        get_logger().warning("monitor.no_bundle", bundle=champion.bundle, error=str(error))
        return None


def _skew_signal(skew: Skew, settings: MonitorSettings) -> Signal:
    return Signal(
        "skew",
        "skew",
        None,
        (),
        tuple(share for share, _ in skew.halves),
        settings.skew,
        tuple(share >= settings.skew and places >= LEAST_REPLAYED for share, places in skew.halves),
        {"answers": skew.answers, "share": skew.share},
    )


def _since(signal: Signal, calendar: Calendar) -> str | None:
    return None if signal.windows is None else calendar.start(signal.windows.previous.start).isoformat()


def _as_json(signal: Signal) -> dict[str, Any]:
    newest = signal.shifts[0] if signal.shifts else None
    return {
        "kind": signal.kind,
        "feature": signal.feature,
        "psi": None if newest is None else newest.psi,
        "p_value": None if newest is None else newest.p_value,
        "dispersion": None if newest is None else newest.dispersion,
        "effects": list(signal.effects),
        "threshold": signal.threshold,
        "exceeded": list(signal.exceeded),
        "alarming": signal.alarming,
        "window_days": None if signal.windows is None else [len(days) for days in signal.windows.both],
        "reference_days": None if signal.windows is None else len(signal.windows.reference),
        "events": None if newest is None else newest.events,
        "detail": signal.detail,
    }


def _told(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {name: evidence[name] for name in ("feature", "psi", "p_value", "effects", "threshold", "detail")}
