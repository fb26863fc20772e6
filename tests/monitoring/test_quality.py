"""Figures of quality against what is counted by hand."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import insert, text

from marquee.monitoring import publish
from marquee.monitoring.quality import Quality, gini, measure
from marquee.store.postgres import Database
from marquee.store.repositories import monitoring, monitoring_rows
from marquee.store.tables import impressions, interactions, items
from marquee.telemetry import metrics

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def test_gini_of_equal_counts_is_zero_and_of_a_single_one_nearly_one() -> None:
    assert gini([3, 3, 3, 3]) == pytest.approx(0)
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)


def test_gini_is_the_mean_difference_of_pairs() -> None:
    values = np.random.default_rng(0).integers(0, 50, 40)
    pairs = np.abs(values[:, None] - values[None, :]).mean()
    assert gini(values) == pytest.approx(pairs / (2 * values.mean()))


def shown(
    at: datetime, user_id: int | None, item_ids: list[int], tier: str, error: str | None = None
) -> dict:
    return {
        "request_id": uuid4(),
        "served_at": at,
        "user_id": user_id,
        "item_ids": item_ids,
        "scores": [1.0] * len(item_ids),
        "bundle": "bundles/a",
        "surface": "recommendations",
        "tier": tier,
        "error": error,
    }


def event(user_id: int, item_id: int, kind: str, at: datetime, request_id: UUID | None = None) -> dict:
    return {
        "user_id": user_id,
        "item_id": item_id,
        "event": kind,
        "occurred_at": at,
        "ingested_at": at,
        "source": "live",
        "event_key": str(uuid4()),
        "request_id": request_id,
    }


@pytest.fixture
def filled(database: Database) -> Database:
    """Ten films; five answers of today, one of before, of which one was clicked after a minute."""
    early, today = NOW - timedelta(days=2), NOW - timedelta(hours=2)
    answers = [
        shown(today, 1, [1, 2, 3, 4], "personal"),
        shown(today, 1, [1, 2], "popular"),  # somebody known
        shown(today, 2, [1, 5], "popular"),  # nothing known
        shown(today, 3, [1, 6], "personal", "TimeoutError"),
        shown(today, None, [1, 7], "popular"),
        shown(early, 1, [9], "personal"),
    ]
    with database.begin() as connection:
        connection.execute(
            insert(items), [{"item_id": i, "title": str(i), "source": "test"} for i in range(1, 11)]
        )
        connection.execute(insert(impressions), answers)
        connection.execute(
            insert(interactions),
            [
                event(1, 1, "watch", early),
                event(3, 2, "rate", early),
                event(1, 2, "click", today + timedelta(seconds=60), answers[0]["request_id"]),
                event(1, 2, "watch", today + timedelta(seconds=90), answers[0]["request_id"]),
            ],
        )
    return database


@pytest.fixture
def quality(filled: Database) -> Quality:
    answers = monitoring_rows.answers(filled, NOW - timedelta(days=1), NOW)
    with filled.begin() as connection:
        return measure(connection, answers, {"1": 8, "2": 4, "9": 2}, NOW, quarantine_share=0.25)


def test_shares_are_those_counted_by_hand(quality: Quality) -> None:
    assert quality.answers == 5
    assert quality.coverage == pytest.approx(0.7)
    assert quality.cold_users == pytest.approx(1 / 4)  # of four answers to somebody
    assert quality.fallback == pytest.approx(2 / 5)
    assert quality.quarantine_share == 0.25


def test_exposure_is_that_of_brute_force(quality: Quality) -> None:
    counts = [5, 2, 1, 1, 1, 1, 1, 0, 0, 0]
    assert quality.gini == pytest.approx(gini(counts))
    assert quality.popularity_share == pytest.approx(5 / 12)  # the first of ten films
    information = {1: -np.log2(9 / 24), 2: -np.log2(5 / 24)}
    expected = sum(n * information.get(i, -np.log2(1 / 24)) for i, n in enumerate(counts, 1)) / 12
    assert quality.novelty_bits == pytest.approx(expected)


def test_outcomes_and_delays_are_of_the_day(quality: Quality) -> None:
    assert quality.label_delay_seconds == {"p50": 60.0, "p95": 60.0}
    assert quality.outcomes["click_rate"]["champion"] == pytest.approx(1 / 4)


def test_empty_database_is_measured_as_unknown(database: Database) -> None:
    answers = monitoring_rows.answers(database, NOW - timedelta(days=1), NOW)
    with database.begin() as connection:
        found = measure(connection, answers, {}, NOW)
    assert found.answers == 0
    assert found.coverage is found.gini is found.cold_users is found.fallback is found.novelty_bits is None
    assert found.label_delay_seconds == {"p50": None, "p95": None}


def test_gauges_are_what_was_measured_last_and_those_of_gone_arms_go(
    database: Database, quality: Quality
) -> None:
    def values(outcomes: dict, feature: str) -> dict:
        drift = [{"feature": feature, "psi": 0.5, "p_value": 0.01}]
        return {"quality": {**quality.as_json(), "outcomes": outcomes}, "drift": drift, "skew": None}

    keep = timedelta(days=9)
    with database.begin() as connection:
        monitoring.append(connection, NOW, 1.5, values({"hit_rate": {"old": 0.1}}, "one"), keep=keep)
        publish(connection)
        monitoring.append(connection, NOW, 2.5, values({"hit_rate": {"new": 0.2}}, "two"), keep=keep)
        monitoring.raise_alarm(connection, "taste", NOW, {})
        publish(connection)
    assert _samples(metrics.QUALITY_OUTCOME) == {("hit_rate", "new"): 0.2}
    assert _samples(metrics.DRIFT_PSI) == {("two",): 0.5}
    assert _samples(metrics.DRIFT_ALARM)["taste",] == 1
    assert _samples(metrics.DRIFT_ALARM)["feed",] == 0
    assert _samples(metrics.MONITOR_SECONDS)[()] == 2.5
    assert _samples(metrics.QUALITY_COVERAGE)[()] == pytest.approx(0.7)
    assert np.isnan(_samples(metrics.QUALITY_SKEW)[()])
    with database.begin() as connection:
        connection.execute(text("UPDATE drift_alarms SET resolved_at = now()"))
        publish(connection)
    assert _samples(metrics.DRIFT_ALARM)["taste",] == 0


def _samples(gauge) -> dict:
    return {tuple(each.labels.values()): each.value for family in gauge.collect() for each in family.samples}
