"""The sums of days as arrays, the windows that are compared, and what is found in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marquee.config import MonitorSettings
from marquee.data.schema import CSR, Ids, Index
from marquee.data.vocabulary import Vocabulary
from marquee.monitoring.drift import Shift, compare
from marquee.monitoring.sums import ITEMS, Calendar
from marquee.store.repositories.monitoring import Counts, Days, DriftKind

__all__ = ["LEAST_DAYS", "OPEN", "Bounds", "Facts", "Signal", "Sums", "Windows", "compared", "windows_of"]

NEW_DAYS: Final = 90
"""A film so long after its release is new."""
LEAST_DAYS: Final = 5
"""Days of a reference that say what is usual."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Days: those of the newest window, of the one before, and of their reference."""

    newest: range
    previous: range
    reference: range

    @property
    def both(self) -> tuple[range, range]:
        """The windows, newest first."""
        return self.newest, self.previous


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    Where a reference may lie.

    Attributes:
        since: its first day, after a retraining.
        until: the day before which it ends, while there is an alarm.
    """

    since: int | None = None
    until: int | None = None

    def within(self, begin: int, end: int) -> tuple[int, int]:
        """The part of some days that a reference may have."""
        if self.until is not None and self.until - begin >= LEAST_DAYS:
            end = min(end, self.until)
        return (begin if self.since is None else min(max(begin, self.since), end)), end


OPEN: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Signal:
    """
    What was found of a kind.

    Attributes:
        feature: what was compared.
        shifts: of the newest window and the one before, as far as they could be compared.
        effects: of both, in the measure of the threshold.
        threshold: from which it matters.
        exceeded: of both, whether it does and is no chance.
        detail: what a person wants to know.
    """

    kind: DriftKind
    feature: str
    windows: Windows | None
    shifts: tuple[Shift, ...]
    effects: tuple[float, ...]
    threshold: float
    exceeded: tuple[bool, ...]
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def alarming(self) -> bool:
        """Whether it is drift: both windows say so."""
        return len(self.exceeded) == 2 and all(self.exceeded)

    @property
    def quiet(self) -> bool:
        """Whether neither window shows it."""
        return not any(self.exceeded)


class Facts:
    """
    What is known of items.

    Args:
        table: `item_id`, `genres`, `release_date`.
        vocabulary: the ids that the champion knows: an item without a date that is not among them is new.
    """

    def __init__(self, table: pa.Table, vocabulary: Ids | None = None) -> None:
        self.items = Vocabulary(table["item_id"].to_numpy())
        released = table["release_date"].cast(pa.date32()).cast(pa.int32())
        dated = released.is_valid().to_numpy()
        self._released = np.where(dated, released.fill_null(0).to_numpy(), np.iinfo(np.int32).min)
        if vocabulary is not None:
            foreign = ~dated & ~np.isin(self.items.ids, vocabulary)
            self._released[foreign] = np.iinfo(np.int32).max
        genres = table["genres"].combine_chunks()
        names = genres.flatten().dictionary_encode()
        self.genres: list[str] = names.dictionary.to_pylist()
        sizes = np.diff(genres.offsets.to_numpy()) if len(genres) else np.zeros(0, np.int64)
        sizes = np.where(genres.is_valid().to_numpy(zero_copy_only=False), sizes, 0)
        rows = np.repeat(np.arange(len(sizes)), sizes)
        weights = np.repeat(1 / np.maximum(sizes, 1), sizes)
        shape = (len(sizes), len(self.genres))
        self.by_genre = CSR((weights, (rows, names.indices.to_numpy())), shape=shape)

    def new(self, day: date) -> NDArray[np.bool_]:
        """(n_items,) which items are new on a day."""
        return np.asarray(self._released > (day - date(1970, 1, 1)).days - NEW_DAYS)


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of days, as arrays."""

    days: Days
    calendar: Calendar
    known: Vocabulary
    first: int
    last: int

    @cached_property
    def by_name(self) -> dict[str, dict[int, Counts]]:
        """Name → day → sums."""
        made: dict[str, dict[int, Counts]] = {}
        for (at, name), counts in self.days.items():
            made.setdefault(name, {})[self.calendar.day(at)] = counts
        return made

    def names(self, prefix: str) -> list[str]:
        """Names that begin with something, without it."""
        return sorted(name.removeprefix(prefix) for name in self.by_name if name.startswith(prefix))

    def of(self, name: str, day: int) -> Counts:
        """The sums of a day."""
        return self.by_name.get(name, {}).get(day, {})

    def totals(self, name: str, key: str | None = None) -> NDArray[np.float64]:
        """(n_days,) of all keys or one, from the first day on."""
        found = (self.of(name, day) for day in range(self.first, self.last + 1))
        return np.array([sum(c.values()) if key is None else c.get(key, 0) for c in found], np.float64)

    def rows(self, days: range, name: str, keys: Sequence[str]) -> NDArray[np.float64]:
        """(n_days, n_keys) of some days."""
        made = np.zeros((len(days), len(keys)))
        for row, day in enumerate(days):
            counts = self.of(name, day)
            made[row] = [counts.get(key, 0) for key in keys]
        return made

    def taken(self, days: range) -> CSR:
        """(n_days, n_items) events; items that are not known are left out."""
        return self._taken[days.start - self.first : days.stop - self.first]

    @cached_property
    def _taken(self) -> CSR:
        data, columns, indptr = [], [], [0]
        for day in range(self.first, self.last + 1):
            counts = self.of(ITEMS, day)
            index = self.known.index(np.fromiter(map(int, counts), np.int64, len(counts)))
            values = np.fromiter(counts.values(), np.float64, len(counts))
            columns.append(index[index >= 0])
            data.append(values[index >= 0])
            indptr.append(indptr[-1] + len(data[-1]))
        cells = (np.concatenate([*data, []]), np.concatenate([*columns, []]).astype(np.int64), indptr)
        return CSR(cells, shape=(len(indptr) - 1, len(self.known)))

    def phases(self, days: range) -> Index:
        """(n_days,) what repeats."""
        return self.calendar.phase(np.array(days, np.int64))


def windows_of(
    totals: NDArray[np.float64], first: int, settings: MonitorSettings, bounds: Bounds = OPEN
) -> Windows | None:
    """
    The windows of some days.

    Args:
        totals: (n_days,) events of whole days, the last being the newest.
        first: the number of the first day.
        bounds: of the reference.

    Returns:
        None with too little traffic, or too few days before.
    """
    end = len(totals)
    found = []
    for _ in range(2):
        start = end
        while (
            start > 0 and totals[start:end].sum() < settings.min_events and end - start < settings.window_days
        ):
            start -= 1
        if totals[start:end].sum() < settings.min_events:
            return None
        found.append(range(first + start, first + end))
        end = start
    begin, stop = bounds.within(first, first + end)
    begin = max(begin, stop - settings.reference_days)
    part = totals[begin - first : stop - first]
    if (part > 0).sum() < LEAST_DAYS or part.sum() < settings.min_events:
        return None
    return Windows(found[0], found[1], range(begin, stop))


def compared(
    sums: Sums,
    reference_days: range,
    days: range,
    reference: NDArray[np.float64],
    window: NDArray[np.float64],
) -> Shift | None:
    """A window against a reference, each weekday against its own."""
    return compare(reference, window, phases=sums.phases(reference_days), window_phases=sums.phases(days))
