import io
import logging
from uuid import uuid4

import pytest
from waiting import until

from marquee.config import LogSettings
from marquee.errors import StoreError, StoreUnavailableError
from marquee.pipelines import run_log
from marquee.pipelines.run_log import RunLog
from marquee.store.postgres import Database
from marquee.store.repositories import run_logs
from marquee.telemetry import configure_logs, get_logger

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Logs as a worker's child has them, written at once."""
    monkeypatch.setattr(run_log, "FLUSH_SECONDS", 0.02)
    configure_logs(LogSettings(format="json"), stream=io.StringIO())


class Unreliable(Database):
    """A real database that may be away, or refuse, for a while."""

    error: StoreError | None = None

    def begin(self):
        if self.error is not None:
            raise self.error
        return super().begin()


@pytest.fixture
def unreliable(settings):
    with Unreliable.open(settings) as database:
        yield database


def kept(database, run_id):
    with database.begin() as connection:
        return [stored.line.event for stored in run_logs.read(connection, run_id)]


def test_lines_wait_for_a_database_that_is_away_and_the_oldest_give_way(unreliable, database, monkeypatch):
    monkeypatch.setattr(run_log, "WAITING_LINES", 4)
    run_id = uuid4()
    unreliable.error = StoreUnavailableError("It is away.")
    with RunLog(unreliable, run_id) as log:
        get_logger().warning("said.first")
        until(lambda: log._is_refused)
        for number in range(4):
            get_logger().warning(f"said.{number}")
        unreliable.error = None
        until(lambda: "said.3" in kept(database, run_id))
    found = kept(database, run_id)
    assert found[-4:] == [f"said.{number}" for number in range(4)]
    assert "said.first" not in found


def test_lines_that_are_refused_are_dropped_and_later_ones_kept(unreliable, database):
    run_id = uuid4()
    unreliable.error = StoreError("No.")
    with RunLog(unreliable, run_id) as log:
        get_logger().warning("said.first")
        until(lambda: log._is_refused)
        unreliable.error = None
        get_logger().warning("said.second")
        until(lambda: "said.second" in kept(database, run_id))
    assert "said.first" not in kept(database, run_id)


def test_lines_are_of_the_step_meanwhile_and_of_nobody_afterwards(database):
    run_id, step_id = uuid4(), uuid4()
    with RunLog(database, run_id) as log:
        get_logger().warning("said.before")
        with log.about(step_id):
            get_logger().warning("said.within", run_id="x", pipeline="y", n=1)
        get_logger().warning("said.behind")
    get_logger().warning("said.too_late")
    assert kept(database, run_id) == ["said.before", "said.behind"]
    with database.begin() as connection:
        (within,) = run_logs.read(connection, step_id)
    assert (within.line.level, within.line.fields) == ("warning", {"n": 1})


def test_what_cannot_be_stored_as_it_is_is_stored_as_far_as_it_can(database):
    run_id = uuid4()
    with RunLog(database, run_id):
        get_logger().warning(
            "said.nul\0", half="\ud800", long="x" * 9_000 + "end", nan=float("nan"), big=10**30
        )
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("elsewhere").exception("broke %s", "mq_1a2b_secret")
    with database.begin() as connection:
        odd, broke = [stored.line for stored in run_logs.read(connection, run_id)]
    assert (odd.event, odd.fields["half"], odd.fields["nan"]) == ("said.nul?", "?", None)
    assert (len(odd.fields["long"]), odd.fields["long"][-3:]) == (4_001, "end")
    assert broke.event == "broke mq_1a2b_***"
    assert "ValueError: why" in broke.fields["exception"]
