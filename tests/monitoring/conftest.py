"""Logs of experiments, written straight into the tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text

from marquee.store.postgres import Database
from marquee.store.repositories import experiments
from marquee.store.repositories.experiments import Arm, Experiment
from marquee.store.tables import impressions, interactions

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Logs:
    """Rows to be written, and how to write them."""

    shown: list[dict] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)

    def show(
        self,
        experiment: Experiment,
        user_id: int,
        at: datetime,
        item_ids: Sequence[int],
        *,
        arm: str | None = None,
        viewed: bool = False,
        duration_ms: float | None = 5.0,
        error: str | None = None,
        propensities: Sequence[float] | None = None,
    ) -> UUID:
        chosen = experiment.arm_of(user_id) if arm is None else experiment.arm(arm)
        row = {
            "request_id": uuid4(),
            "served_at": at,
            "user_id": user_id,
            "item_ids": list(item_ids),
            "scores": [0.0] * len(item_ids),
            "propensities": propensities,
            "bundle": chosen.bundle,
            "arm": chosen.name,
            "surface": "recommendations",
            "viewed_at": at if viewed else None,
            "tier": "personal",
            "experiment_id": experiment.experiment_id,
            "duration_ms": duration_ms,
            "error": error,
        }
        self.shown.append(row)
        return row["request_id"]

    def do(
        self,
        user_id: int,
        at: datetime,
        event: str,
        item_id: int,
        *,
        request_id: UUID | None = None,
        rating: float | None = None,
        seconds: float | None = None,
        revokes: str | None = None,
    ) -> str:
        key = f"{user_id}:{len(self.events)}"
        self.events.append(
            {
                "user_id": user_id,
                "item_id": item_id,
                "event": event,
                "rating": rating,
                "watch_seconds": seconds,
                "occurred_at": at,
                "source": "live",
                "event_key": key,
                "revokes": revokes,
                "request_id": request_id,
            }
        )
        return key

    def write(self, database: Database) -> None:
        with database.begin() as connection:
            for table, rows in ((impressions, self.shown), (interactions, self.events)):
                if rows:
                    connection.execute(insert(table), rows)
        self.shown, self.events = [], []


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
def begin(database: Database) -> Callable[..., Experiment]:
    """Start an experiment of two arms, as if at START."""

    def start(
        share: float = 0.5, *, kind: str = "ab", limits: dict | None = None, started_at: datetime = START
    ) -> Experiment:
        arms = (
            Arm("champion", 1 - share, "bundles/a", "a" * 64, "ease", "1"),
            Arm("challenger", share, "bundles/b", "b" * 64, "ials", "2"),
        )
        with database.begin() as connection:
            made = experiments.start(
                connection, "test", kind, arms, started_by="me", reason="why", limits=limits, salt="salt"
            )
            connection.execute(
                text("UPDATE experiments SET started_at = :at WHERE experiment_id = :id"),
                {"at": started_at, "id": made.experiment_id},
            )
            return experiments.get(connection, made.experiment_id)

    return start


@pytest.fixture
def hours() -> Callable[[float], datetime]:
    """The moment so many hours after START."""
    return lambda number: START + timedelta(hours=number)
