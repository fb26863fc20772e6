from datetime import UTC, datetime
from uuid import uuid4

import pytest

from marquee.store.postgres import Database
from marquee.store.repositories import run_logs, runs
from marquee.store.repositories.run_logs import Line

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def lines(run_id, *events):
    return [Line(run_id, NOW, "info", event, {"n": 1}) for event in events]


def events(stored):
    return [each.line.event for each in stored]


def test_lines_are_read_on_from_where_the_last_reading_ended(database: Database):
    run_id = uuid4()
    with database.begin() as connection:
        run_logs.append(connection, lines(run_id, "a", "b", "c"))
        run_logs.append(connection, lines(uuid4(), "of another run"))
        run_logs.append(connection, [])
        first = run_logs.read(connection, run_id, limit=2)
        assert first[0].line == Line(run_id, NOW, "info", "a", {"n": 1})
        assert events(first) == ["a", "b"]
        rest = run_logs.read(connection, run_id, after=first[-1].line_id)
        assert events(rest) == ["c"]
        assert run_logs.read(connection, run_id, after=rest[-1].line_id) == []


def test_oldest_lines_of_a_run_make_room_and_those_of_others_stay(database: Database):
    run_id, other = uuid4(), uuid4()
    with database.begin() as connection:
        run_logs.append(connection, lines(other, "stays"), kept=1)
        for batch in ("abc", "de", "f"):
            run_logs.append(connection, lines(run_id, *batch), kept=3)
        assert events(run_logs.read(connection, run_id)) == ["d", "e", "f"]
        assert events(run_logs.read(connection, other)) == ["stays"]


def test_lines_of_steps_are_lines_of_the_whole_run(database: Database):
    with database.begin() as connection:
        whole = runs.create(connection, "pipeline").run_id
        steps = [
            runs.create(connection, name, parent_id=whole, step_number=number).run_id
            for number, name in enumerate(("prepare", "train"))
        ]
        for run_id, event in zip((whole, *steps, whole), "abcd", strict=True):
            run_logs.append(connection, lines(run_id, event))
        assert events(run_logs.read(connection, whole)) == ["a", "b", "c", "d"]
        assert events(run_logs.read(connection, whole, limit=3)) == ["a", "b", "c"]
        assert events(run_logs.read(connection, steps[0])) == ["b"]
