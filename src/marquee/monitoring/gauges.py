"""What was last measured, as gauges."""

from collections.abc import Mapping
from typing import Any, get_args

from prometheus_client import Gauge
from sqlalchemy import Connection

from marquee.store.repositories import monitoring
from marquee.store.repositories.monitoring import DriftKind
from marquee.telemetry import metrics

__all__ = ["publish"]

_OF_QUALITY = {
    "answers": metrics.QUALITY_ANSWERS,
    "coverage": metrics.QUALITY_COVERAGE,
    "gini": metrics.QUALITY_GINI,
    "popularity_share": metrics.QUALITY_POPULARITY,
    "novelty_bits": metrics.QUALITY_NOVELTY,
    "cold_users": metrics.QUALITY_COLD,
    "fallback": metrics.QUALITY_FALLBACK,
    "quarantine_share": metrics.QUARANTINE_SHARE,
}


def publish(connection: Connection) -> None:
    """Set the gauges of quality and drift to what was last measured; those of what is gone go."""
    opened = {alarm.kind for alarm in monitoring.alarms(connection, open_only=True)}
    _set(metrics.DRIFT_ALARM, {(kind,): float(kind in opened) for kind in get_args(DriftKind)})
    newest = monitoring.newest(connection)
    if newest is None:
        return
    metrics.MONITOR_COMPUTED.set(newest.measured_at.timestamp())
    metrics.MONITOR_SECONDS.set(newest.seconds)
    quality: dict[str, Any] = newest.values["quality"]
    for name, gauge in _OF_QUALITY.items():
        gauge.set(_number(quality[name]))
    outcomes = quality["outcomes"].items()
    _set(
        metrics.QUALITY_OUTCOME,
        {(metric, arm): value for metric, arms in outcomes for arm, value in arms.items()},
    )
    delays = quality["label_delay_seconds"].items()
    _set(metrics.QUALITY_LABEL_DELAY, {(part,): value for part, value in delays if value is not None})
    skew = newest.values["skew"]
    metrics.QUALITY_SKEW.set(_number(None if skew is None else skew["share"]))
    drift = newest.values["drift"]
    for gauge, name in ((metrics.DRIFT_PSI, "psi"), (metrics.DRIFT_P_VALUE, "p_value")):
        _set(gauge, {(each["feature"],): each[name] for each in drift if each[name] is not None})


def _set(gauge: Gauge, wanted: Mapping[tuple[str, ...], float]) -> None:
    """The values of a gauge by its labels; others go."""
    present = {tuple(sample.labels.values()) for family in gauge.collect() for sample in family.samples}
    for labels in present - wanted.keys():
        gauge.remove(*labels)
    for labels, value in wanted.items():
        gauge.labels(*labels).set(value)


def _number(value: float | None) -> float:
    """What cannot be told is no number, and no alert compares with it."""
    return float("nan") if value is None else float(value)
