"""
Sums of days: what came in since the last time is added to them, so that a look costs what is new.

Events belong to the day on which they happened, whenever they came in; each is added once, in the order in
which they came in. Answers come in no order that could be held on to: the days that are not long over are
added up anew. Days before the horizon, which no window looks at, are let go.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.config import MonitorSettings
from marquee.data.schema import Ids, Index, Microseconds
from marquee.store.postgres import Database
from marquee.store.repositories import monitoring, monitoring_rows

__all__ = [
    "ANSWERS",
    "FEED",
    "INGESTED",
    "ITEMS",
    "QUARANTINE",
    "SCORES",
    "Calendar",
    "Collected",
    "collect",
    "horizon",
]

ITEMS: Final = "items"
"""Item id → events that took it: watched, rated, liked."""
FEED: Final = "feed:"
"""And a source: what its events look like. `rows`, `event:…`, `no_rating`, `no_seconds`, `unknown` (the item
is not in the catalogue), `repeated` (the same once more, as far as both came in about together), `seconds:…`
(in steps of five minutes, 0 for itself), `rating:…`, `hour:…`."""
INGESTED: Final = "ingested"
"""Source → events, by the day on which they came in."""
QUARANTINE: Final = "quarantine"
"""Source → rows that were rejected on that day."""
ANSWERS: Final = "answers"
"""Tier → answers; `all`, `failed` and `bypassed` beside them."""
SCORES: Final = "scores:"
"""And a bundle: the first score of personal answers, in steps of an eighth of a doubling."""

TAKEN: Final = tuple(map(ord, "wrl"))
LABELS: Final = {ord(name[0]): name for name in ("watch", "rate", "like", "hide", "click", "undo")}
GRACE: Final = timedelta(minutes=15)
"""Answers are written behind; a day this long over is complete."""
STEP_SECONDS: Final = 300
STEPS: Final = 48
STEPS_PER_DOUBLING: Final = 8

Sums = dict[tuple[int, str], dict[str, float]]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
"""An odd number near 2⁶⁴ divided by the golden ratio: neighbours end far apart."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """
    Days as they are counted, in UTC.

    Attributes:
        minutes: of a day.
    """

    minutes: float

    @property
    def width(self) -> int:
        """Microseconds of a day."""
        return max(round(self.minutes * 60_000_000), 1)

    def index(self, moments: Microseconds) -> Index:
        """The day of each moment."""
        return np.asarray(moments // self.width, dtype=np.int64)

    def day(self, moment: datetime) -> int:
        """The day of a moment."""
        return _microseconds(moment) // self.width

    def start(self, day: int) -> datetime:
        """When a day begins."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(day) * self.width)

    def phase(self, days: Index) -> Index:
        """What of a day repeats: its weekday, or of hours and the like their place in the day."""
        if self.minutes == 1_440:
            return np.asarray(days % 7)
        per_day = round(1_440 / self.minutes)
        return np.asarray(days % per_day) if per_day <= 24 else np.zeros_like(days)


@dataclass(frozen=True, slots=True)
class Collected:
    """
    What was added.

    Attributes:
        events, answers: rows that were read.
        waiting: events are still being written, and are counted next time.
        recent: answers of the last 24 hours, and the share of them that was read.
    """

    events: int
    answers: int
    waiting: bool
    recent: monitoring_rows.Answers


def horizon(settings: MonitorSettings, calendar: Calendar, now: datetime) -> int:
    """The first day that any window looks at."""
    return calendar.day(now) - settings.reference_days - 2 * settings.window_days


def collect(database: Database, settings: MonitorSettings, now: datetime, known: Ids) -> Collected:
    """
    Add what came in to the sums; a run that dies half-way has added nothing.

    Args:
        known: the items of the catalogue.
    """
    calendar = Calendar(settings.day_minutes)
    first = horizon(settings, calendar, now)
    since = calendar.start(first)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        bounds = {
            table: monitoring_rows.settled(connection, table) for table in ("interactions", "quarantine")
        }
    with database.begin() as connection:
        monitoring.hold(connection)
        marks = monitoring.marks(connection)
        if marks.get("day_minutes") != settings.day_minutes:
            monitoring.clear(connection)
            marks = {}
        sums: Sums = defaultdict(dict)
        n_events = 0
        after, until = int(marks.get("interactions", 0)), bounds["interactions"] or 0
        if until > after:
            for rows in monitoring_rows.events(
                database, after=after, until=until, since=since, most=settings.max_rows
            ):
                n_events += len(rows)
                _add_events(sums, rows, calendar, known)
            marks["interactions"] = until
        after, until = int(marks.get("quarantine", 0)), bounds["quarantine"] or 0
        if until > after:
            _add_quarantined(sums, database, calendar, after, until, since)
            marks["quarantine"] = until
        monitoring.add(connection, {(calendar.start(day), name): made for (day, name), made in sums.items()})
        answers = _put_answers(connection, database, calendar, marks, since, now)
        marks |= {"day_minutes": settings.day_minutes, "answers": now.isoformat()}
        monitoring.set_marks(connection, marks)
        monitoring.forget(connection, since)
    return Collected(n_events, len(answers.rows), None in bounds.values(), _recent(answers, now))


def _add_events(sums: Sums, rows: pa.Table, calendar: Calendar, known: Ids) -> None:
    if not len(rows):
        return
    days = calendar.index(rows["occurred_at"].to_numpy())
    items, events = rows["item_id"].to_numpy(), rows["event"].to_numpy()
    taken = np.isin(events, TAKEN)
    _add(sums, days[taken], ITEMS, items[taken])
    sources = rows["source"].combine_chunks().dictionary_encode()
    of = sources.indices.to_numpy()
    ratings, seconds = (
        pc.fill_null(rows[name].cast(pa.float64()), np.nan).to_numpy() for name in ("rating", "watch_seconds")
    )
    hours = rows["occurred_at"].to_numpy() // 3_600_000_000 % 24
    is_known = np.isin(items, known) | (events == ord("u"))
    repeated = _repeated(of, events, items, *(rows[name].to_numpy() for name in ("user_id", "occurred_at")))
    arrived = calendar.index(rows["ingested_at"].to_numpy())
    for number, source in enumerate(sources.dictionary.to_pylist()):
        mine = of == number
        name = f"{FEED}{source}"
        _add(sums, days[mine], name, events[mine], lambda code: f"event:{LABELS[code]}")
        for key, which in (
            ("rows", mine),
            ("no_rating", mine & (events == ord("r")) & np.isnan(ratings)),
            ("no_seconds", mine & (events == ord("w")) & np.isnan(seconds)),
            ("unknown", mine & ~is_known),
            ("repeated", mine & repeated),
        ):
            _add(sums, days[which], name, np.zeros(which.sum(), np.int64), lambda _, key=key: key)
        for key, values, size, most in (
            ("seconds", seconds, STEP_SECONDS, STEPS),
            ("rating", ratings, 0.5, 20),
        ):
            which = mine & ~np.isnan(values)
            steps = np.minimum(np.ceil(values[which] / size), most).astype(np.int64)
            _add(sums, days[which], name, steps, lambda step, key=key: f"{key}:{step}")
        _add(sums, days[mine], name, hours[mine], lambda hour: f"hour:{hour}")
        _add(sums, arrived[mine], INGESTED, np.zeros(mine.sum(), np.int64), lambda _, key=source: key)


def _repeated(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) which rows are as one before them, by a hash of their columns."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * _MIX
        mixed ^= mixed >> np.uint64(29)
    _, first = np.unique(mixed, return_index=True)
    made = np.ones(len(mixed), bool)
    made[first] = False
    return made


def _add_quarantined(
    sums: Sums, database: Database, calendar: Calendar, after: int, until: int, since: datetime
) -> None:
    rows = monitoring_rows.quarantined(database, after=after, until=until, since=since)
    if not len(rows):
        return
    sources = rows["source"].combine_chunks().dictionary_encode()
    names = sources.dictionary.to_pylist()
    days = calendar.index(rows["at"].to_numpy())
    _add(sums, days, QUARANTINE, sources.indices.to_numpy(), lambda number: names[number])


def _put_answers(
    connection: Any,
    database: Database,
    calendar: Calendar,
    marks: dict[str, Any],
    since: datetime,
    now: datetime,
) -> monitoring_rows.Answers:
    """The days that are not long over, added up anew."""
    fresh = since
    if "answers" in marks:
        fresh = max(since, calendar.start(calendar.day(datetime.fromisoformat(marks["answers"]) - GRACE)))
    answers = monitoring_rows.answers(database, min(fresh, now - timedelta(days=1)), now)
    rows = answers.rows.filter(pc.greater_equal(answers.rows["served_at"], _microseconds(fresh)))
    sums: Sums = defaultdict(dict)
    if len(rows):
        days = calendar.index(rows["served_at"].to_numpy())
        tiers = rows["tier"].combine_chunks().cast(pa.string()).fill_null("unknown").dictionary_encode()
        names = tiers.dictionary.to_pylist()
        _add(sums, days, ANSWERS, tiers.indices.to_numpy(), lambda number: names[number])
        _add(sums, days, ANSWERS, np.zeros(len(days), np.int64), lambda _: "all")
        for key in ("failed", "bypassed"):
            which = rows[key].to_numpy()
            _add(sums, days[which], ANSWERS, np.zeros(which.sum(), np.int64), lambda _, key=key: key)
        _add_scores(sums, rows, days)
    scaled = {
        (calendar.start(day), name): {key: count / answers.share for key, count in made.items()}
        for (day, name), made in sums.items()
    }
    monitoring.put(connection, scaled)
    return answers


def _add_scores(sums: Sums, rows: pa.Table, days: Index) -> None:
    scores = pc.fill_null(rows["score"].cast(pa.float64()), np.nan).to_numpy()
    personal = pc.fill_null(pc.equal(rows["tier"], "personal"), False).to_numpy() & np.isfinite(scores)
    bundles = rows["bundle"].combine_chunks().dictionary_encode()
    of = bundles.indices.to_numpy()
    with np.errstate(divide="ignore"):
        steps = np.where(scores == 0, 0, np.floor(STEPS_PER_DOUBLING * np.log2(np.abs(scores))))
    # Ascending with the score: steps are kept apart from 0 and from the other sign by what no float reaches.
    steps = np.where(scores == 0, 0, np.sign(scores) * (steps + 2_000 * STEPS_PER_DOUBLING))
    for number, bundle in enumerate(bundles.dictionary.to_pylist()):
        which = personal & (of == number)
        _add(sums, days[which], f"{SCORES}{bundle}", steps[which].astype(np.int64))


def _recent(answers: monitoring_rows.Answers, now: datetime) -> monitoring_rows.Answers:
    last = pc.greater_equal(answers.rows["served_at"], _microseconds(now - timedelta(days=1)))
    return monitoring_rows.Answers(answers.rows.filter(last), answers.share)


def _add(sums: Sums, days: Index, name: str, values: NDArray[Any], label: Any = str) -> None:
    """Count each value of each day."""
    if not len(days):
        return
    distinct, code = np.unique(values, return_inverse=True)
    first = int(days.min())
    cells, counts = np.unique((days - first) * len(distinct) + code, return_counts=True)
    labels = [label(value) for value in distinct.tolist()]
    places = zip((cells // len(distinct) + first).tolist(), (cells % len(distinct)).tolist(), strict=True)
    for (day, place), count in zip(places, counts.tolist(), strict=True):
        into = sums[day, name]
        into[labels[place]] = into.get(labels[place], 0) + count


def _microseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
