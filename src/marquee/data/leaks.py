"""What lets a model see the future: rows on the wrong side of a cut, and facts of a later day."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.data.schema import Ids, Index, Microseconds
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import Window
from marquee.errors import DataError

__all__ = ["CHANGING_FACTS", "check_facts", "check_window"]

CHANGING_FACTS: Final = frozenset({"popularity", "vote_average", "vote_count"})
"""Facts of an item that are different on another day."""

NEVER: Final = int(np.iinfo(np.int64).min)


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
