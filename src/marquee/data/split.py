"""
Splits in time: what a model may learn from, what it is asked, and what is right.

Rows are never split at random and nothing later than a query reaches a model. The three protocols:

    rolling   cuts at 50, 55, … 95 % of the rows; each window asks for the second half of its users' rows
    global    80 % train, 10 % validation, 10 % test by time: for large data
    last      each user's last row: only for comparison with papers, since it leaks across users in time

Rows are taken in the global order (time, user, item). Events other than ratings bring two cases that ratings
do not have: hiding an item is no wish for it, and an item that the user has already seen cannot be
recommended, so neither is part of a ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Event, Ids, Index, Microseconds, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.errors import DataError

__all__ = [
    "GroundTruth",
    "Protocol",
    "Window",
    "WindowSummary",
    "check_facts",
    "check_window",
    "global_time",
    "leave_last_out",
    "rolling",
    "split",
    "summarise",
]

Protocol = Literal["rolling", "global", "last"]

N_WINDOWS: Final = 10
N_TUNING_WINDOWS: Final = 4
FIRST_CUT: Final = 50  # % of the rows
CUT_STEP: Final = 5  # % of the rows
LAST_MIN_ROWS: Final = 5
"""Users with fewer rows are not asked under `last`."""

NEVER: Final = int(np.iinfo(np.int64).min)

CHANGING_FACTS: Final = frozenset({"popularity", "vote_average", "vote_count"})
"""Facts of an item that are different on another day."""


@dataclass(frozen=True, eq=False, slots=True)
class GroundTruth:
    """
    What the users of n queries went on to choose. Query i owns `indptr[i]:indptr[i + 1]`.

    Attributes:
        indptr: (n + 1,) offsets.
        item_ids: (n_truth,) external ids, distinct within a query.
        timestamps: (n_truth,) microseconds since 1970-01-01 UTC.
        ratings: (n_truth,) 0–10, NaN where the event carries none.
    """

    indptr: Index
    item_ids: Ids
    timestamps: Microseconds
    ratings: Vector

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> Index:
        """(n,) number of items of each query."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> Index:
        """(n_truth,) the query to which each item belongs."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """The same queries with only the items of a (n_truth,) mask."""
        lengths = np.bincount(self.rows[mask], minlength=len(self))
        return type(self)(_offsets(lengths), self.item_ids[mask], self.timestamps[mask], self.ratings[mask])

    def matrix(self, items: Vocabulary) -> CSR:
        """(n, n_items) float32 CSR with 1 for each item of the ground truth that is in the vocabulary."""
        column = items.index(self.item_ids)
        known = column >= 0
        made = CSR(
            (np.ones(int(known.sum()), np.float32), (self.rows[known], column[known])),
            shape=(len(self), len(items)),
        )
        made.sort_indices()
        return made


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """
    One cut in time with its queries.

    Attributes:
        name: for reports, e.g. `rolling-4`.
        index: position among the windows of its protocol.
        tuning: hyper-parameters may be chosen on it; otherwise it is for the test.
        fit: the rows a model may learn from, in the global order.
        histories: n queries: all that is known of a user at the moment of the query.
        truth: n ground truths.
        users_apart: the fit data is only free of each user's own future (`last`), not of everybody's.
    """

    name: str
    index: int
    tuning: bool
    fit: Interactions
    histories: Histories
    truth: GroundTruth
    users_apart: bool = False

    def __len__(self) -> int:
        return len(self.histories)

    def catalogue(self) -> Vocabulary:
        """The items with at least one row in the fit data (hiding one does not count)."""
        return Vocabulary.by_count(self.fit.positives().item_ids)

    def blind(self) -> "Window":
        """The same fit data without the queries: all that a model of this window may see of it."""
        nothing = np.zeros(0, dtype=np.int64)
        return Window(
            self.name,
            self.index,
            self.tuning,
            self.fit,
            self.histories.take(nothing),
            GroundTruth(np.zeros(1, np.int64), nothing, nothing, np.zeros(0, np.float32)),
            self.users_apart,
        )


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """How much a window asks."""

    name: str
    tuning: bool
    n_fit: int
    n_items: int
    n_queries: int
    n_truth: int
    n_cold: int


def split(interactions: Interactions, protocol: Protocol = "rolling") -> list[Window]:
    """
    The windows of a protocol, each checked for leaks.

    Args:
        interactions: in any order.
        protocol: `rolling`, `global` or `last`.

    Raises:
        ValueError: an unknown protocol.
        DataError: a window leaks.
    """
    if protocol == "rolling":
        windows = rolling(interactions)
    elif protocol == "global":
        windows = global_time(interactions)
    elif protocol == "last":
        windows = leave_last_out(interactions)
    else:
        raise ValueError(f"Unknown protocol {protocol!r}; known: {', '.join(get_args(Protocol))}")
    for window in windows:
        check_window(window)
    return windows


def rolling(interactions: Interactions) -> list[Window]:
    """
    Rolling origin with fold-in: ten windows, the first four for tuning.

    Window k holds the rows from c_k = round(N (0.50 + 0.05 k)) on. A user with n ≥ 2 rows in it is asked at
    t_q, the time of their row ⌊n/2⌋: the history is all before that moment, also inside the window, and the
    ground truth the rest of their window. Rows of one moment are never parted.

    Args:
        interactions: in any order.
    """
    rows = interactions.sorted()
    n = len(rows)
    cuts = [round(n * (FIRST_CUT + CUT_STEP * k) / 100) for k in range(N_WINDOWS)] + [n]
    return [_rolling_window(rows, k, cuts[k], cuts[k + 1]) for k in range(N_WINDOWS)]


def global_time(interactions: Interactions) -> list[Window]:
    """
    Cuts at 80 and 90 % of the rows: a validation window (tuning) and a test window.

    The queries are the users with rows on both sides of the cut; the test model is fitted on the validation
    rows too.

    Args:
        interactions: in any order.
    """
    rows = interactions.sorted()
    n = len(rows)
    first, second = int(0.8 * n), int(0.9 * n)
    return [
        _cut_window(rows, "global-validation", 0, first, second),
        _cut_window(rows, "global-test", 1, second, n),
    ]


def leave_last_out(interactions: Interactions) -> list[Window]:
    """
    Each user's last row but one (tuning) and last row (test), for users with at least five.

    Everybody else's later rows are fit data: this leaks across users in time and rewards the order of rating
    sessions. Use it only to compare with papers.

    Args:
        interactions: in any order.
    """
    rows = interactions.sorted()
    users, inverse, counts = np.unique(rows.user_ids, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    from_end = np.empty(len(rows), dtype=np.int64)  # 1 for the last row of a user
    from_end[order] = np.repeat(np.cumsum(counts), counts) - np.arange(len(rows))
    asked = counts[inverse] >= LAST_MIN_ROWS
    windows = []
    for index, (name, place) in enumerate((("last-validation", 2), ("last-test", 1))):
        fit = ~asked | (from_end > place)
        windows.append(
            _window(
                name=name,
                index=index,
                tuning=place == 2,
                fit=rows.take(fit),
                past=rows.take(asked & (from_end > place)),
                future=rows.take(asked & (from_end == place)),
                users=users[counts >= LAST_MIN_ROWS],
                users_apart=True,
            )
        )
    return windows


def check_window(window: Window) -> None:
    """
    Refuse a window that leaks.

    No fit row may be later than the ground truth of any query (under `last`: of the same user), no history
    event later than the query, no ground truth earlier than it, and no row may be on both sides. Fit rows of
    the very moment of the cut are before it in the global order: they are allowed.

    Raises:
        DataError: naming the query and the two times.
    """
    histories, truth, fit = window.histories, window.truth, window.fit
    asked = np.flatnonzero(truth.lengths > 0)
    if not len(asked):
        return
    earliest = np.minimum.reduceat(truth.timestamps, truth.indptr[asked])
    users, inverse = np.unique(histories.user_ids[asked], return_inverse=True)
    if window.users_apart:
        place = Vocabulary(users).index(fit.user_ids)  # -1 for those who are not asked
        latest = np.full(len(users), NEVER)
        np.maximum.at(latest, place[place >= 0], fit.timestamps[place >= 0])
        latest = latest[inverse]
    else:
        latest = np.full(len(asked), fit.timestamps.max(initial=NEVER))
    _refuse(window, asked, latest > earliest, latest, earliest, "fit data as late as")
    _refuse(window, asked, earliest < histories.as_of[asked], histories.as_of[asked], earliest, "a query at")
    newest = np.full(len(histories), NEVER)
    np.maximum.at(newest, histories.rows, histories.timestamps)
    late = newest > histories.as_of
    _refuse(window, np.arange(len(histories)), late, newest, histories.as_of, "a history up to")
    # Of equal times only a row that stands on both sides leaks.
    first = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, earliest)
    near = fit.take(fit.timestamps >= earliest.min())
    place = Vocabulary(users).index(near.user_ids)
    near = near.take((place >= 0) & (near.timestamps >= first[place]))
    shared = _triples(near.user_ids, near.item_ids, near.timestamps) & _triples(
        histories.user_ids[truth.rows], truth.item_ids, truth.timestamps
    )
    if shared:
        user, item, moment = min(shared)
        raise DataError(
            f"The window {window.name} leaks: item {item} of user {user} at {_when(moment)} is both fit data "
            "and ground truth.",
            fix="Make windows with marquee.data.split.split().",
        )


def summarise(windows: Sequence[Window]) -> list[WindowSummary]:
    """Fit rows, queries, ground-truth items and how many of those are cold (not in the fit data)."""
    made = []
    for window in windows:
        items = window.catalogue()
        cold = int((items.index(window.truth.item_ids) < 0).sum())
        made.append(
            WindowSummary(
                window.name,
                window.tuning,
                len(window.fit),
                len(items),
                len(window),
                len(window.truth.item_ids),
                cold,
            )
        )
    return made


def check_facts(table: pa.Table, before: int) -> None:
    """
    Refuse facts that change with time unless each row says that it was observed before a cut.

    Args:
        table: item facts; a column `observed_at` (timestamp) dates its rows.
        before: the cut, microseconds since 1970-01-01 UTC.

    Raises:
        DataError: popularity or votes without a date, or of a later day.
    """
    changing = sorted(CHANGING_FACTS & set(table.column_names))
    if not changing:
        return
    fix = f"Leave out {', '.join(changing)}, or give `observed_at` and only rows of before the cut."
    if "observed_at" not in table.column_names:
        raise DataError(
            f"The facts {', '.join(changing)} carry no date, so they may be of the future.", fix=fix
        )
    observed = table["observed_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    known = pc.any(pc.invert(pc.less(observed, before)).fill_null(True)).as_py()
    if known:
        latest = pc.max(observed).as_py()
        seen = "without a date" if latest is None else f"observed up to {_when(latest)}"
        raise DataError(
            f"The facts {', '.join(changing)} leak: they are {seen}, the cut is at {_when(before)}.", fix=fix
        )


def _rolling_window(rows: Interactions, k: int, start: int, stop: int) -> Window:
    inside = rows.take(slice(start, stop))
    users, first, inverse, counts = _by_user(inside.user_ids)
    order = np.argsort(inverse, kind="stable")
    asked = counts >= 2
    middle = inside.timestamps[order[(first + counts // 2)[asked]]]
    users = users[asked]
    known = rows.take(slice(0, stop))
    past = _earlier(known, users, middle)
    future = ~_earlier(inside, users, middle) & np.isin(inside.user_ids, users)
    return _window(
        name=f"rolling-{k}",
        index=k,
        tuning=k < N_TUNING_WINDOWS,
        fit=rows.take(slice(0, start)),
        past=known.take(past),
        future=inside.take(future),
        users=users,
        as_of=middle,
    )


def _cut_window(rows: Interactions, name: str, index: int, start: int, stop: int) -> Window:
    fit, inside = rows.take(slice(0, start)), rows.take(slice(start, stop))
    users = np.intersect1d(fit.user_ids, inside.user_ids)
    return _window(
        name=name,
        index=index,
        tuning=index == 0,
        fit=fit,
        past=fit.take(np.isin(fit.user_ids, users)),
        future=inside.take(np.isin(inside.user_ids, users)),
        users=users,
    )


def _window(
    *,
    name: str,
    index: int,
    tuning: bool,
    fit: Interactions,
    past: Interactions,
    future: Interactions,
    users: Ids,
    as_of: Microseconds | None = None,
    users_apart: bool = False,
) -> Window:
    """
    A window of the given users (ascending) without those who have no history or no ground truth.

    Args:
        past, future: rows of these users, any order.
        as_of: (n_users,) moments of the queries; default: each user's first row of the future.
    """
    past = past.take(np.lexsort((past.item_ids, past.timestamps, past.user_ids)))
    future = future.take(np.lexsort((future.timestamps, future.item_ids, future.user_ids)))
    if as_of is None:
        as_of = np.full(len(users), np.iinfo(np.int64).max)
        np.minimum.at(as_of, np.searchsorted(users, future.user_ids), future.timestamps)
    # Two events of one item at the very moment of the cut may stand on both sides of it.
    late = fit.take(fit.timestamps >= as_of.min(initial=np.iinfo(np.int64).max))
    tied = late.take(~_earlier(late, users, as_of) & np.isin(late.user_ids, users))
    seen = past.take(past.events != Event.CLICK)
    wanted = (future.events != Event.HIDE) & ~_same_pair(future, seen) & ~_same_pair(future, tied)
    wanted[1:] &= (future.user_ids[1:] != future.user_ids[:-1]) | (
        future.item_ids[1:] != future.item_ids[:-1]
    )
    future = future.take(wanted)
    n_past, n_future = (
        np.searchsorted(side.user_ids, users, side="right") - np.searchsorted(side.user_ids, users)
        for side in (past, future)
    )
    kept = (n_past > 0) & (n_future > 0)
    past = past.take(np.isin(past.user_ids, users[kept]))
    future = future.take(np.isin(future.user_ids, users[kept]))
    return Window(
        name,
        index,
        tuning,
        fit,
        Histories(
            _offsets(n_past[kept]),
            past.item_ids,
            past.timestamps,
            past.events,
            past.ratings,
            past.watch_seconds,
            as_of[kept],
            users[kept],
        ),
        GroundTruth(_offsets(n_future[kept]), future.item_ids, future.timestamps, future.ratings),
        users_apart,
    )


def _same_pair(rows: Interactions, others: Interactions) -> NDArray[np.bool_]:
    """Which rows have the user and item of any of the others."""
    items = Vocabulary(np.unique(np.concatenate([rows.item_ids, others.item_ids])))
    users = Vocabulary(np.unique(np.concatenate([rows.user_ids, others.user_ids])))
    stride = max(len(items), 1)
    mine, theirs = (
        users.index(side.user_ids) * stride + items.index(side.item_ids) for side in (rows, others)
    )
    return np.isin(mine, theirs)


def _earlier(rows: Interactions, users: Ids, moments: Microseconds) -> NDArray[np.bool_]:
    """Which rows are of one of the users (ascending) and strictly before their moment."""
    place = np.minimum(np.searchsorted(users, rows.user_ids), max(len(users) - 1, 0))
    if not len(users):
        return np.zeros(len(rows), dtype=bool)
    return np.asarray((users[place] == rows.user_ids) & (rows.timestamps < moments[place]))


def _by_user(user_ids: Ids) -> tuple[Ids, Index, Index, Index]:
    """Distinct users, their first position in a stable sort by user, the inverse, and their row counts."""
    users, inverse, counts = np.unique(user_ids, return_inverse=True, return_counts=True)
    return users, np.cumsum(counts) - counts, inverse, counts


def _offsets(lengths: Index) -> Index:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _triples(user_ids: Ids, item_ids: Ids, timestamps: Microseconds) -> set[tuple[int, int, int]]:
    return set(zip(user_ids.tolist(), item_ids.tolist(), timestamps.tolist(), strict=True))


def _refuse(
    window: Window,
    queries: Index,
    bad: NDArray[np.bool_],
    later: Microseconds,
    earlier: Microseconds,
    what: str,
) -> None:
    if not bad.any():
        return
    at = int(np.flatnonzero(bad)[0])
    user = window.histories.user_ids[queries[at]]
    moment = "a query" if what.startswith("a history") else "ground truth"
    raise DataError(
        f"The window {window.name} leaks: {what} {_when(int(later[at]))}, but {moment} of user {user} is of "
        f"{_when(int(earlier[at]))} ({int(bad.sum())} of {len(queries)} queries).",
        fix="Make windows with marquee.data.split.split().",
    )


def _when(microseconds: int) -> str:
    return f"{np.datetime64(microseconds, 'us')}Z"
