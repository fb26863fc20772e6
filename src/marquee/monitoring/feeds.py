"""Whether sources deliver what they do on such days, and whether it makes sense."""

from datetime import datetime
from typing import Final

import numpy as np

from marquee.config import MonitorSettings
from marquee.monitoring.series import LEAST_DAYS, Bounds, Signal, Sums, Windows, compared, windows_of
from marquee.monitoring.sums import FEED, INGESTED, QUARANTINE, Calendar
from marquee.store.repositories.monitoring import Days

__all__ = ["feeds", "quarantine_share"]

LEAST_ROWS: Final = 100
"""Rows from which a share of a feed is one; of a day, half."""
USUAL: Final = 0.9
"""Share of the days of a reference whose values are usual: a few odd ones do not hide what comes after."""
LIVE: Final = "live"


def feeds(sums: Sums, settings: MonitorSettings, bounds: Bounds) -> list[Signal]:
    """The signals of every source that delivers day by day."""
    made = []
    for source in sums.names(FEED):
        name = f"{FEED}{source}"
        totals = sums.totals(name, "rows")
        end = len(totals)
        if end < 2 + LEAST_DAYS:
            continue
        begin, stop = bounds.within(sums.first, sums.last - 1)
        volume = Windows(
            range(sums.last, sums.last + 1),
            range(sums.last - 1, sums.last),
            range(max(begin, stop - settings.reference_days), stop),
        )
        if not _is_feed(sums, source, volume.reference):
            continue
        made.append(_volume(sums, name, source, settings, volume))
        windows = windows_of(totals, sums.first, settings, bounds)
        if windows is not None:
            made.append(_values(sums, name, source, settings, windows))
    return made


def quarantine_share(days: Days, calendar: Calendar) -> float | None:
    """Share of the rows of the newest day with any that were rejected."""
    found: dict[datetime, list[float]] = {}
    for (at, name), counts in days.items():
        if name in (INGESTED, QUARANTINE):
            found.setdefault(at, [0.0, 0.0])[name == QUARANTINE] += sum(counts.values())
    if not found:
        return None
    good, bad = found[max(found)]
    return bad / (good + bad)


def _is_feed(sums: Sums, source: str, reference: range) -> bool:
    """Whether a source delivers day by day: what was brought in at once is no feed."""
    if source == LIVE:
        return True
    return sum(sums.of(INGESTED, day).get(source, 0) > 0 for day in reference) >= 3


def _volume(sums: Sums, name: str, source: str, settings: MonitorSettings, windows: Windows) -> Signal:
    """Rows of the last two days against days of the same weekday, and against all that there ever were."""
    rows = sums.rows(windows.reference, name, ["rows"]).ravel()
    phases = sums.phases(windows.reference)
    begun = np.flatnonzero(rows)
    start = int(begun[0]) if len(begun) else len(rows)
    rows, phases = rows[start:], phases[start:]
    effects, exceeded, expected = [], [], 0.0
    for window in windows.both:
        count = float(sums.rows(window, name, ["rows"])[0, 0])
        alike = rows[phases == sums.phases(window)[0]]
        expected = float(np.median(alike if len(alike) >= 3 else rows)) if len(rows) else 0.0
        ratio = count / expected if expected else 1.0
        low, high = np.quantile(rows, (1 - USUAL, USUAL)) if len(rows) else (0.0, 0.0)
        few = ratio <= settings.collapse and count < low
        many = ratio >= 1 / settings.collapse and count > high
        effects.append(abs(float(np.log2(max(ratio, 1e-3)))))
        exceeded.append(len(rows) >= LEAST_DAYS and expected >= LEAST_ROWS / 2 and (few or many))
    detail = {
        "source": source,
        "what": "rows",
        "rows": float(sums.rows(windows.newest, name, ["rows"])[0, 0]),
        "usual_rows": expected,
    }
    threshold = abs(float(np.log2(settings.collapse)))
    return Signal("feed", f"{source}.rows", windows, (), tuple(effects), threshold, tuple(exceeded), detail)


def _values(sums: Sums, name: str, source: str, settings: MonitorSettings, windows: Windows) -> Signal:
    """The greatest rise of a share that says that values are missing, all the same, or unknown."""
    keys = sorted(
        {key for days in (windows.reference, *windows.both) for day in days for key in sums.of(name, day)}
    )
    parts: dict[str, tuple[list[str], list[str]]] = {
        "no_rating": (["no_rating"], ["event:rate"]),
        "no_seconds": (["no_seconds"], ["event:watch"]),
        "unknown": (["unknown"], ["rows"]),
        "repeated": (["repeated"], ["rows"]),
    }
    for kind in ("seconds", "rating"):
        bins = [key for key in keys if key.startswith(f"{kind}:")]
        parts |= {key: ([key], bins) for key in bins}
    worst: list[tuple[float, str, float, float]] = []
    reference = {each: sums.rows(windows.reference, name, [each]).ravel() for each in keys}
    for window in windows.both:
        now = {each: float(sums.rows(window, name, [each]).sum()) for each in keys}
        best = (0.0, "", 0.0, 0.0)
        for what, (top, below) in parts.items():
            of = sum(now.get(each, 0.0) for each in below)
            days_below = sum(reference.get(each, np.zeros(len(windows.reference))) for each in below)
            days_top = sum(reference.get(each, np.zeros(len(windows.reference))) for each in top)
            some = np.asarray(days_below) >= LEAST_ROWS / 2
            if of < LEAST_ROWS or np.sum(days_below) < LEAST_ROWS:
                continue
            share = sum(now.get(each, 0.0) for each in top) / of
            usual = float(np.sum(days_top) / np.sum(days_below))
            daily = np.asarray(days_top)[some] / np.asarray(days_below)[some]
            most = float(np.quantile(daily, USUAL)) if len(daily) else usual
            if share > most and share - usual > best[0]:
                best = (share - usual, what, share, usual)
        worst.append(best)
    detail = {"source": source, "what": worst[0][1], "share": worst[0][2], "usual_share": worst[0][3]}
    effects = tuple(each[0] for each in worst)
    exceeded = tuple(each[0] >= settings.jump for each in worst)
    if worst[0][1] != worst[1][1]:
        exceeded = (exceeded[0], False)
    events = sorted(key for key in keys if key.startswith("event:"))
    shifts = tuple(
        shift
        for window in windows.both
        if (
            shift := compared(
                sums,
                windows.reference,
                window,
                sums.rows(windows.reference, name, events),
                sums.rows(window, name, events),
            )
        )
    )
    return Signal("feed", f"{source}.values", windows, shifts, effects, settings.jump, exceeded, detail)
