"""Each kind of drift raises its own alarm, and no other; a year without any raises none."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from marquee.config import MonitorSettings
from marquee.monitoring.series import Bounds, Facts, Signal, windows_of
from marquee.monitoring.signals import signals
from marquee.store.repositories.monitoring import Days

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
SETTINGS = MonitorSettings()
GENRES = ["Drama", "Comedy", "Horror", "Romance"]
N_ITEMS = 200
NEW = range(1_000, 1_010)
DRIFT_DAY = 60


@pytest.fixture(scope="module")
def facts() -> Facts:
    ids = [*range(N_ITEMS), *NEW]
    return Facts(
        pa.table(
            {
                "item_id": pa.array(ids, pa.int64()),
                "genres": pa.array([[GENRES[i % 4]] for i in ids], pa.list_(pa.string())),
                "release_date": pa.array(
                    [date(2010, 1, 1) if i < N_ITEMS else date(2026, 3, 1) for i in ids], pa.date32()
                ),
            }
        )
    )


class World:
    """Days of events, drawn at random; weekends are busier and funnier."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.popularity = 1 / (5 + self.random.permutation(N_ITEMS))
        self.days: Days = {}

    def play(self, first: int, last: int, **change: float) -> None:
        for day in range(first, last):
            self.day(day, **change)

    def day(
        self,
        day: int,
        *,
        horror: float = 1.0,
        shock: float = 0.0,
        shocked: int = 7,
        new: float = 0.0,
        volume: float = 1.0,
        silent: float = 0.0,
        rows_twice: bool = False,
    ) -> None:
        weekend = (BEGIN + timedelta(days=day)).weekday() >= 5
        n = self.random.poisson(400 * volume * (1.6 if weekend else 1.0))
        weights = self.popularity.copy()
        weights[2::4] *= horror
        if weekend:
            weights[1::4] *= 1.3
        weights *= self.random.gamma(20, 1 / 20, N_ITEMS)  # the weather of the day
        items = self.random.choice(N_ITEMS, n, p=weights / weights.sum())
        kind = self.random.random(n)
        items = np.where(kind < shock, shocked, items)
        items = np.where((kind >= shock) & (kind < shock + new), self.random.choice(NEW, n), items)
        at = BEGIN + timedelta(days=day)
        self.days[at, "items"] = {str(k): v for k, v in Counter(items.tolist()).items()}
        seconds = np.where(self.random.random(n) < silent, 0, self.random.integers(1, 25, n))
        feed: dict[str, float] = {
            "rows": n * (1 + rows_twice),
            "event:watch": n * (1 + rows_twice),
            "repeated": n * rows_twice,
        }
        for step, count in Counter(seconds.tolist()).items():
            feed[f"seconds:{step}"] = count
        self.days[at, "feed:live"] = feed


def looked(world: World, facts: Facts, day: int, **bounds: Bounds) -> list[Signal]:
    return signals(world.days, facts, SETTINGS, BEGIN + timedelta(days=day), bounds=bounds)


def alarming(world: World, facts: Facts, day: int) -> set[str]:
    return {signal.kind for signal in looked(world, facts, day) if signal.alarming}


def test_year_without_drift_raises_nothing(facts: Facts) -> None:
    world = World(0)
    world.play(0, 365)
    found = [signal for day in range(40, 365, 4) for signal in looked(world, facts, day)]
    assert {signal.kind for signal in found} == {"feed", "popularity", "new_releases", "taste"}
    assert not [signal for signal in found if signal.alarming]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("taste", {"horror": 4.0}),
        ("popularity", {"shock": 0.25}),
        ("new_releases", {"new": 0.25}),
        ("feed", {"volume": 0.15}),
        ("feed", {"volume": 5.0}),
        ("feed", {"silent": 0.7}),
        ("feed", {"rows_twice": True}),
    ],
    ids=["taste", "popularity", "new releases", "few rows", "many rows", "zero seconds", "rows twice"],
)
def test_each_drift_raises_its_own_alarm_only(facts: Facts, kind: str, change: dict[str, float]) -> None:
    world = World(1)
    world.play(0, DRIFT_DAY)
    assert alarming(world, facts, DRIFT_DAY) == set()
    world.play(DRIFT_DAY, DRIFT_DAY + 7, **change)
    found = [alarming(world, facts, DRIFT_DAY + days) for days in range(1, 8)]
    first = next(kinds for kinds in found if kinds)
    assert first == {kind}
    assert set().union(*found) == {kind}


def test_one_odd_day_raises_nothing(facts: Facts) -> None:
    world = World(2)
    world.play(0, DRIFT_DAY)
    world.day(DRIFT_DAY, horror=4.0, volume=2.0)
    world.play(DRIFT_DAY + 1, DRIFT_DAY + 4)
    assert [alarming(world, facts, DRIFT_DAY + days) for days in range(1, 4)] == [set()] * 3


def test_quiet_year_in_small_windows_raises_nothing(facts: Facts) -> None:
    few = MonitorSettings(min_events=50)
    world = World(5)
    world.play(0, 365, volume=0.05)
    for day in range(40, 365, 4):
        found = signals(world.days, facts, few, BEGIN + timedelta(days=day))
        assert not [signal for signal in found if signal.alarming]


def test_other_films_in_each_window_are_no_shock(facts: Facts) -> None:
    world = World(4)
    world.play(0, DRIFT_DAY)
    for day in range(DRIFT_DAY, DRIFT_DAY + 4):
        world.day(day, shock=0.25, shocked=11 + day)
        (found,) = (each for each in looked(world, facts, day + 1) if each.kind == "popularity")
        assert found.exceeded == (True, False)


def test_films_of_a_shock_are_named(facts: Facts) -> None:
    world = World(3)
    world.play(0, DRIFT_DAY)
    world.play(DRIFT_DAY, DRIFT_DAY + 5, shock=0.3)
    (found,) = (each for each in looked(world, facts, DRIFT_DAY + 5) if each.kind == "popularity")
    assert found.detail["items"] == [7]
    assert found.detail["share_gained"] == pytest.approx(0.3, abs=0.08)


def test_reference_that_begins_with_the_drift_shows_none(facts: Facts) -> None:
    world = World(4)
    world.play(0, DRIFT_DAY)
    world.play(DRIFT_DAY, DRIFT_DAY + 20, horror=4.0)

    def taste(**bounds: Bounds) -> list[Signal]:
        return [each for each in looked(world, facts, DRIFT_DAY + 20, **bounds) if each.kind == "taste"]

    assert taste(taste=Bounds(until=DRIFT_DAY + _index(BEGIN)))[0].alarming
    assert taste(taste=Bounds(since=DRIFT_DAY + _index(BEGIN)))[0].quiet
    assert taste(taste=Bounds(since=DRIFT_DAY + 14 + _index(BEGIN))) == []  # too little to compare with


def test_source_brought_in_at_once_is_no_feed(facts: Facts) -> None:
    world = World(5)
    world.play(0, 40)
    renamed: Days = {
        (at, name.replace("live", "history")): counts for (at, name), counts in world.days.items()
    }
    world.days = renamed
    assert "feed" not in {signal.kind for signal in looked(world, facts, 42)}
    for day in range(10, 40, 5):
        world.days[BEGIN + timedelta(days=day), "ingested"] = {"history": 1_000}
    assert alarming(world, facts, 42) == {"feed"}


def test_item_without_a_date_is_new_where_the_champion_does_not_know_it() -> None:
    table = pa.table(
        {
            "item_id": pa.array([1, 2, 3], pa.int64()),
            "genres": pa.array([None, [], ["Drama"]], pa.list_(pa.string())),
            "release_date": pa.array([None, None, date(2020, 1, 1)], pa.date32()),
        }
    )
    assert Facts(table).new(date(2026, 1, 1)).tolist() == [False, False, False]
    assert Facts(table, np.array([1])).new(date(2026, 1, 1)).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("totals", "lengths"),
    [
        ([600] * 30, (1, 1, 28)),
        ([200] * 40, (3, 3, 28)),
        ([40] * 60, None),
        ([600] * 6, None),
        ([600] * 7, (1, 1, 5)),
    ],
    ids=["busy", "quiet", "too quiet", "too young", "just old enough"],
)
def test_windows_are_as_short_as_traffic_allows(
    totals: list[float], lengths: tuple[int, int, int] | None
) -> None:
    found = windows_of(np.array(totals, np.float64), 100, SETTINGS)
    if lengths is None:
        assert found is None
        return
    assert found is not None
    assert tuple(map(len, (found.newest, found.previous, found.reference))) == lengths
    assert found.newest.stop == 100 + len(totals)
    assert (found.previous.stop, found.reference.stop) == (found.newest.start, found.previous.start)


def _index(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)).days
