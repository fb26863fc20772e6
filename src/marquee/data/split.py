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
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories, Interactions
from marquee.data.leaks import check_window
from marquee.data.schema import Event, Ids, Index, Microseconds
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth, Window, offsets

__all__ = [
    "Protocol",
    "WindowSummary",
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
            offsets(n_past[kept]),
            past.item_ids,
            past.timestamps,
            past.events,
            past.ratings,
            past.watch_seconds,
            as_of[kept],
            users[kept],
        ),
        GroundTruth(offsets(n_future[kept]), future.item_ids, future.timestamps, future.ratings),
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
