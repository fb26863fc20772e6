"""
What drift looks like: one signal for each kind, none of which sees what another is for.

    feed          a source delivers far less or more than it does on such days, or its values go missing, all
                  become the same, repeat, or name items that nobody knows
    popularity    few films gain a share of all watching that the rest of their genres does not gain
    new_releases  the share of what was released of late rises
    taste         genres are watched in other shares, new films and those of a shock apart
    scores        the champion's first scores are distributed in another way

What holds in the newest window and in the one before it is drift; where one kind explains another, only the
first is said. A window is the least number of whole days with enough events. Its reference are the days
before both windows, in the same mix of weekdays. It moves on with time and, at once, with a retraining; while
there is an alarm it stays where it was when that was raised, until its days are gone: then what was drift is
usual.

A year without drift is to pass without an alarm, but for one in a hundred. It has 365 whole days, and seven
signals (rows and values of a feed, popularity, new releases, taste, scores, skew): 2,555 chances. A window
shows a shift by chance with α = 0.0001. The two windows have their reference in common, which correlates them
by n / (n + m) of n events and m of the reference: 0.2 for a week and four. Both then show the same shift with
9e-8, and one of all chances with 0.0002; were a reference no longer than its window (0.5), with 2e-6 and
0.005. That days overlap, and that a shift must also be large, can only lower this.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import betainc

from marquee.config import MonitorSettings
from marquee.data.schema import CSR, Index
from marquee.monitoring.drift import Shift, psi
from marquee.monitoring.feeds import feeds
from marquee.monitoring.series import OPEN, Bounds, Facts, Signal, Sums, Windows, compared, windows_of
from marquee.monitoring.sums import ITEMS, SCORES, Calendar, horizon
from marquee.store.repositories.monitoring import Days, DriftKind

__all__ = ["EXPLAINS", "signals"]

EXPLAINS: Final[Mapping[DriftKind, tuple[DriftKind, ...]]] = {
    "feed": ("popularity", "new_releases", "taste", "scores"),
    "popularity": ("taste", "scores"),
    "new_releases": ("scores",),
    "taste": ("scores",),
}
"""Kind → kinds that are not said beside it."""
SHOCKED: Final = 3
"""Films that a shock of popularity lies on, at most."""
LIFT: Final = 2.0
"""How many times its usual share such a film has, at least."""
SCORE_BINS: Final = 10
SCORE_DAYS: Final = 7
"""Scores grow with what is known of users: they are compared with the last days only."""


def signals(
    days: Days,
    facts: Facts,
    settings: MonitorSettings,
    now: datetime,
    *,
    bundle: str | None = None,
    bounds: Mapping[DriftKind, Bounds] | None = None,
) -> list[Signal]:
    """
    Look for drift of every kind that there is enough to be said of.

    Args:
        days: the sums, of whole days and others.
        bundle: key of the champion's bundle.
        bounds: kind → where its reference may lie.
    """
    calendar = Calendar(settings.day_minutes)
    last = calendar.day(now) - 1
    sums = Sums(days, calendar, facts.items, horizon(settings, calendar, now), last)
    within = bounds or {}
    made = feeds(sums, settings, within.get("feed", OPEN))
    totals = sums.totals(ITEMS)
    shocked: dict[int, Index] = {}
    looks: tuple[tuple[DriftKind, Look], ...] = (
        ("popularity", _popularity),
        ("new_releases", _new_releases),
        ("taste", _taste),
    )
    for kind, look in looks:
        windows = windows_of(totals, sums.first, settings, within.get(kind, OPEN))
        if windows is not None:
            made.append(look(sums, facts, settings, windows, shocked))
    if bundle is not None:
        name = f"{SCORES}{bundle}"
        windows = windows_of(sums.totals(name), sums.first, settings, within.get("scores", OPEN))
        if windows is not None:
            made += _scores(sums, name, settings, windows)
    return made


Look = Callable[[Sums, Facts, MonitorSettings, Windows, dict[int, Index]], Signal]


def _popularity(
    sums: Sums, facts: Facts, settings: MonitorSettings, windows: Windows, shocked: dict[int, Index]
) -> Signal:
    established = ~facts.new(sums.calendar.start(windows.newest[-1]).date())
    reference = sums.taken(windows.reference) @ sparse.diags_array(established.astype(np.float64))
    usual = np.asarray(reference.sum(axis=0), np.float64).ravel()
    dispersion = _dispersion(reference)
    shifts, gains, exceeded, names = [], [], [], []
    for window in windows.both:
        watched = np.asarray(sums.taken(window).sum(axis=0), np.float64).ravel()
        counts = watched * established
        found, excess, chance = _gainers(
            usual, counts, facts.by_genre, dispersion, settings.concentration / 5, settings.significance
        )
        # Of all watching: a few events beside many of new films are no shock.
        gain = float(excess.sum() * counts.sum() / max(watched.sum(), 1))
        split = [np.append(each[found], each.sum() - each[found].sum()) for each in (usual, counts)]
        n, m = counts.sum(), usual.sum()
        noise = dispersion * len(found) * (1 / max(n, 1) + 1 / max(m, 1))
        shifts.append(Shift(psi(*split), noise, chance, dispersion, float(n), float(m)))
        gains.append(gain)
        exceeded.append(gain >= settings.concentration)
        shocked[window[0]] = found
        names.append(facts.items.ids[found].tolist())
    if not set(names[0]) & set(names[1]):
        exceeded = [exceeded[0], False]  # others each time: a shock lasts
    detail = {"items": names[0], "share_gained": gains[0]}
    return Signal(
        "popularity",
        "popularity",
        windows,
        tuple(shifts),
        tuple(gains),
        settings.concentration,
        tuple(exceeded),
        detail,
    )


def _gainers(
    usual: NDArray[np.float64],
    counts: NDArray[np.float64],
    by_genre: CSR,
    dispersion: float,
    least: float,
    significance: float,
) -> tuple[Index, NDArray[np.float64], float]:
    """
    The few items with the greatest shares beyond what they and the rest of their genres usually have.

    An item counts if that is hardly chance by the conditional test of two Poisson rates, its events taken
    as so many fewer as they are over-dispersed, and all items taken for chosen among.

    Returns:
        The items, their excess shares, and the least of their chances.
    """
    n, m = counts.sum(), usual.sum()
    nothing = np.zeros(0, np.int64), np.zeros(0), 1.0
    if not (n > 0 and m > 0):
        return nothing
    share, before = counts / n, usual / m
    candidates = np.argsort(before - share, kind="stable")[:20]
    genres_now, genres_then = by_genre.T @ counts, by_genre.T @ usual
    excess, chances = np.zeros(len(candidates)), np.ones(len(candidates))
    for place, item in enumerate(candidates):
        own = by_genre[[item]].toarray().ravel()
        now = (genres_now - own * counts[item] + 1) / (n - counts[item] + 1)
        then = (genres_then - own * usual[item] + 1) / (m - usual[item] + 1)
        lift = float((now / then)[own > 0].max(initial=1.0))
        expected = before[item] * lift
        if share[item] >= max(LIFT * expected, np.finfo(float).tiny):
            part = n * lift / (n * lift + m)
            chance = betainc(counts[item] / dispersion, usual[item] / dispersion + 1, part)
            chances[place] = min(float(chance) * len(usual), 1.0)
            excess[place] = share[item] - expected
    best = np.argsort(-excess, kind="stable")[:SHOCKED]
    best = best[(excess[best] >= least) & (chances[best] <= significance)]
    return candidates[best], excess[best], float(chances[best].min(initial=1.0))


def _dispersion(cells: CSR) -> float:
    """How much more the events of an item differ from day to day than independent ones would, ≥ 1."""
    of_day, of_item = (np.asarray(cells.sum(axis=axis), np.float64).ravel() for axis in (1, 0))
    total, used, days = of_item.sum(), np.count_nonzero(of_item), np.count_nonzero(of_day)
    if used < 2 or days < 2:
        return 1.0
    found = sparse.coo_array(cells)
    # Σ (x − e)² / e without the cells that are 0.
    statistic = (found.data**2 / (of_day[found.row] * of_item[found.col])).sum() * total - total
    return max(float(statistic / ((days - 1) * (used - 1))), 1.0)


def _new_releases(
    sums: Sums, facts: Facts, settings: MonitorSettings, windows: Windows, shocked: dict[int, Index]
) -> Signal:
    reference = _new_and_old(sums, facts, windows.reference)
    usual = reference[:, 0].sum() / max(reference.sum(), 1)
    shifts, shares, exceeded = [], [], []
    for window in windows.both:
        counts = _new_and_old(sums, facts, window)
        share = float(counts[:, 0].sum() / max(counts.sum(), 1))
        shares.append(share)
        shift = compared(sums, windows.reference, window, reference, counts)
        if shift is not None:
            shifts.append(shift)
            risen = share - usual >= settings.concentration
            exceeded.append(bool(risen and shift.matters(settings.psi, settings.significance)))
    effects = tuple(shift.effect for shift in shifts)
    detail = {"share": shares[0], "usual_share": float(usual)}
    return Signal(
        "new_releases", "new_releases", windows, tuple(shifts), effects, settings.psi, tuple(exceeded), detail
    )


def _new_and_old(sums: Sums, facts: Facts, days: range) -> NDArray[np.float64]:
    """(n_days, 2) events with items that were new on their day, and with others."""
    cells = sums.taken(days)
    made = np.zeros((len(days), 2))
    for row, day in enumerate(days):
        new = facts.new(sums.calendar.start(day).date())
        counts = cells[[row]].toarray().ravel()
        made[row] = counts[new].sum(), counts[~new].sum()
    return made


def _taste(
    sums: Sums, facts: Facts, settings: MonitorSettings, windows: Windows, shocked: dict[int, Index]
) -> Signal:
    kept = ~facts.new(sums.calendar.start(windows.newest[-1]).date())
    shifts, exceeded = [], []
    detail: dict[str, Any] = {}
    for window in windows.both:
        mine = kept.copy()
        mine[shocked.get(window[0], np.zeros(0, np.int64))] = False
        weights = sparse.diags_array(mine.astype(np.float64)) @ facts.by_genre
        reference, counts = (
            np.asarray((sums.taken(days) @ weights).toarray()) for days in (windows.reference, window)
        )
        shift = compared(sums, windows.reference, window, reference, counts)
        # What a shock or new films have left may be too little.
        if shift is not None and counts.sum() >= settings.min_events / 2:
            shifts.append(shift)
            exceeded.append(shift.matters(settings.psi, settings.significance))
        if not detail:
            detail["genres"] = _most_moved(facts.genres, reference.sum(axis=0), counts.sum(axis=0))
    effects = tuple(shift.effect for shift in shifts)
    return Signal("taste", "genre", windows, tuple(shifts), effects, settings.psi, tuple(exceeded), detail)


def _most_moved(
    names: Sequence[str], before: NDArray[np.float64], now: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Name → share before and now, of those that moved most."""
    if not (before.sum() > 0 and now.sum() > 0):
        return {}
    shares = before / before.sum(), now / now.sum()
    most = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:5]
    return {names[i]: [float(shares[0][i]), float(shares[1][i])] for i in most}


def _scores(sums: Sums, name: str, settings: MonitorSettings, windows: Windows) -> list[Signal]:
    near = range(max(windows.reference.start, windows.reference.stop - SCORE_DAYS), windows.reference.stop)
    steps = sorted(
        {int(key) for day in (*near, *windows.previous, *windows.newest) for key in sums.of(name, day)}
    )
    keys = [str(step) for step in steps]
    reference = sums.rows(near, name, keys)
    total = reference.sum()
    if not total:
        return []
    middle = (np.cumsum(reference.sum(axis=0)) - reference.sum(axis=0) / 2) / total
    bins = np.minimum((middle * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    into = np.eye(SCORE_BINS)[bins]
    threshold = 2 * settings.psi
    shifts, exceeded = [], []
    for window in windows.both:
        shift = compared(sums, near, window, reference @ into, sums.rows(window, name, keys) @ into)
        if shift is not None:
            shifts.append(shift)
            exceeded.append(shift.matters(threshold, settings.significance))
    effects = tuple(shift.effect for shift in shifts)
    return [Signal("scores", "score", windows, tuple(shifts), effects, threshold, tuple(exceeded))]
