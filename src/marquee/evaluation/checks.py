"""
Behavioural checks: what no figure of accuracy shows, asked of a fitted model in the pipeline that serves it.

    sound answers       scores are finite, and lists are full and name no item twice
    nothing comes back  what a user watched, rated, liked or hid, and what editors block, is in no list
    watch time          more watch time of a genre does not lower the genre's share in the lists
    strangers           a user with no history changes nobody else's answer

No single user can be asked about watch time: a film watched leaves room for another, and lists are short. So
each of many users gets more of one genre of theirs, once as longer watching and once as one film more, and
the mean share of that genre in the lists is compared with before. It counts as lower when it falls by more
than `SLACK` and by more than two standard errors over users. A model that does not look at watch time gives
the same lists, and passes.

Source:
    Ribeiro et al. 2020, "Beyond accuracy: behavioral testing of NLP models with CheckList" (invariance and
    directional expectation); Breck et al. 2017, "The ML test score".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marquee.data.dataset import Catalog, Histories
from marquee.data.schema import Event, Ids, Index
from marquee.evaluation.metrics import genre_vectors
from marquee.models.base import Recommender
from marquee.recommend.pipeline import RecommendationPipeline, unavailable

__all__ = ["Check", "check_behaviour"]

K: Final = 10
SLACK: Final = 0.01
"""One place in ten lists of ten: a share that falls by less is no matter."""
LONGER: Final = 1.2
"""How much longer a genre is watched."""
FILM_SECONDS: Final = 5_400.0
TOLERANCE: Final = 1e-5
"""Relative to the scale of the scores: matrix products of other shapes round differently."""
ENDED: Final = (Event.WATCH, Event.RATE, Event.LIKE, Event.HIDE)
"""Events that take an item out of a user's lists."""

D = TypeVar("D", bound=np.generic)
Lists = NDArray[np.int64]  # (n, K) external ids, -1 as padding


@dataclass(frozen=True)
class Check:
    """
    One property and whether it holds.

    Attributes:
        name: of the property.
        found: in words, with numbers.
    """

    name: str
    passed: bool
    found: str


def check_behaviour(
    model: Recommender, catalog: Catalog, histories: Histories, *, blocked: Ids | None = None
) -> list[Check]:
    """
    All checks of one model.

    Args:
        model: fitted.
        catalog: facts of items.
        histories: of real users, a few hundred are enough.
        blocked: external ids that editors block.

    Returns:
        One per property; a model that raises has failed.
    """
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "sound answers": lambda: _sound(model, histories),
        "nothing seen, hidden or blocked comes back": lambda: _nothing_comes_back(
            model, catalog, histories, blocked
        ),
        "more watch time of a genre does not lower its share": lambda: _watch_time(model, catalog, histories),
        "a user without history changes nobody else's answer": lambda: _strangers(model, catalog, histories),
    }
    return [_checked(name, check) for name, check in checks.items()]


def _checked(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:  # whatever a model raises here it would raise in a request
        return Check(name, passed=False, found=f"it raised {type(error).__name__}: {error}")


def _sound(model: Recommender, histories: Histories) -> tuple[bool, str]:
    scores = np.asarray(model.score(histories))
    wrong = int(scores.size - np.isfinite(scores).sum())
    if wrong or scores.shape != (len(histories), len(model.items)):
        return False, f"{wrong} of {scores.size} scores are not finite"
    ids = RecommendationPipeline(model).recommend(histories, K).item_ids
    ordered = np.sort(ids, axis=1)
    twice = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1).sum())
    left = len(model.items) - histories.lengths  # at least so many items are left to show
    short = int(((ids >= 0).sum(axis=1) < np.minimum(left, K)).sum())
    return not (twice or short), f"of {len(ids)} lists {twice} name an item twice and {short} are too short"


def _nothing_comes_back(
    model: Recommender, catalog: Catalog, histories: Histories, blocked: Ids | None
) -> tuple[bool, str]:
    """After each user watched, rated, liked and hid the best of their list, and editors blocked one of it."""
    pipeline = RecommendationPipeline(model, catalog, blocked=blocked)
    best = pipeline.recommend(histories, len(ENDED)).item_ids
    then = _appended(histories, best, ENDED)
    listed, times = np.unique(best[best >= 0], return_counts=True)
    gone = listed[np.argsort(-times, kind="stable")[:1]]
    gone = gone if blocked is None else np.concatenate([gone, blocked])
    strict = RecommendationPipeline(model, catalog, blocked=gone)
    lists = {
        "the pipeline": strict.recommend(then, K).item_ids,
        "the model": model.recommend(then, K).item_ids,
    }
    for who, ids in lists.items():
        back = _count_known(ids, then)
        if back:
            return False, f"{back} of {int((ids >= 0).sum())} places of {who} hold an item of the history"
    shown = int(np.isin(lists["the pipeline"], gone).sum())
    return not shown, f"{shown} blocked and no seen or hidden items in {2 * len(histories)} lists"


def _watch_time(model: Recommender, catalog: Catalog, histories: Histories) -> tuple[bool, str]:
    pipeline = RecommendationPipeline(model, catalog)
    genres = genre_vectors(catalog).toarray() > 0  # (n_items + 1, n_genres)
    users, genre = _genre_of_each(histories, catalog, genres)
    if not len(users):
        return True, "nobody has watched an item whose genre is known"
    part = histories.take(users)
    before = pipeline.recommend(part, K + 1).item_ids
    of_genre = genres[catalog.items.index(part.item_ids), genre[part.rows]]
    longer = replace(part, watch_seconds=np.where(of_genre, part.watch_seconds * LONGER, part.watch_seconds))
    film = _film_of_genre(part, model, catalog, genres, genre)
    more = _appended(part, film[:, None], (Event.WATCH,), FILM_SECONDS)
    said = []
    for how, asked, left_out in (
        ("watched longer", longer, np.full(len(part), -1)),
        ("one film more", more, film),
    ):
        # The film itself cannot be shown afterwards: it is left out before, too.
        old, new = (
            _share(_without(ids, left_out), catalog, genres, genre)
            for ids in (before, pipeline.recommend(asked, K + 1).item_ids)
        )
        change = new - old
        change = change[np.isfinite(change)]
        mean = float(change.mean()) if len(change) else 0.0
        error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else 0.0
        said.append(f"{how}: {mean:+.4f} ± {2 * error:.4f}")
        if mean < -SLACK and mean + 2 * error < 0:
            return False, f"the mean share of the genre falls over {len(change)} users ({said[-1]})"
    return True, f"mean change of the share over {len(part)} users: {', '.join(said)}"


def _strangers(model: Recommender, catalog: Catalog, histories: Histories) -> tuple[bool, str]:
    """Strangers at the front, in between and at the end of the batch."""
    pipeline = RecommendationPipeline(model, catalog)
    alone = pipeline.recommend(histories, K)
    places = np.unique([0, len(histories) // 2, len(histories)])
    both = pipeline.recommend(_with_strangers(histories, places), K)
    own = np.delete(np.arange(len(both)), places + np.arange(len(places)))
    scale = float(np.nanmax(np.abs(alone.scores), initial=0.0))
    near = np.isclose(alone.scores, both.scores[own], rtol=TOLERANCE, atol=TOLERANCE * scale)
    changed = ((alone.item_ids != both.item_ids[own]) & ~near).any(axis=1)
    return not changed.any(), f"{int(changed.sum())} of {len(histories)} lists change"


def _genre_of_each(histories: Histories, catalog: Catalog, genres: NDArray[np.bool_]) -> tuple[Index, Index]:
    """The users who watched something of a known genre, and of each one such genre, in turn."""
    watched = histories.events == Event.WATCH
    row, column = np.nonzero(genres[catalog.items.index(histories.item_ids)] & watched[:, None])
    pairs = np.unique(histories.rows[row] * genres.shape[1] + column)
    users, start, count = np.unique(pairs // genres.shape[1], return_index=True, return_counts=True)
    chosen = pairs[start + np.arange(len(users)) % count]
    return users, chosen % genres.shape[1]


def _film_of_genre(
    histories: Histories, model: Recommender, catalog: Catalog, genres: NDArray[np.bool_], genre: Index
) -> Ids:
    """(n,) the most popular item of each user's genre that their history does not name, -1 without one."""
    known = genres[catalog.items.index(model.items.ids)]  # most popular first
    made = np.full(len(histories), -1, dtype=np.int64)
    for user in range(len(histories)):
        own = model.items.ids[known[:, genre[user]]]
        past = histories.item_ids[histories.indptr[user] : histories.indptr[user + 1]]
        fresh = own[~np.isin(own, past)]
        made[user] = fresh[0] if len(fresh) else -1
    return made


def _share(lists: Lists, catalog: Catalog, genres: NDArray[np.bool_], genre: Index) -> NDArray[np.float64]:
    """(n,) share of each list that is of the user's genre, NaN for an empty list."""
    row = catalog.items.index(lists.ravel()).reshape(lists.shape)
    n = (lists >= 0).sum(axis=1)
    of_genre = (genres[row, genre[:, None]] & (lists >= 0)).sum(axis=1)
    shares: NDArray[np.float64] = np.full(len(lists), np.nan)
    np.divide(of_genre, n, out=shares, where=n > 0)
    return shares


def _without(lists: Lists, item_ids: Ids) -> Lists:
    """The first K of each list after one item is taken out of it."""
    out = (lists == item_ids[:, None]) | (lists < 0)
    order = np.argsort(out, axis=1, kind="stable")[:, :K]
    return np.where(np.take_along_axis(out, order, axis=1), -1, np.take_along_axis(lists, order, axis=1))


def _count_known(lists: Lists, histories: Histories) -> int:
    """Places that hold an item of the user's history."""
    kept = histories.where(unavailable(histories))
    return sum(
        int(np.isin(ids[ids >= 0], kept.item_ids[kept.indptr[row] : kept.indptr[row + 1]]).sum())
        for row, ids in enumerate(lists)
    )


def _appended(
    histories: Histories, item_ids: Lists, events: Sequence[Event], watch_seconds: float = np.nan
) -> Histories:
    """
    The same histories with newer events behind.

    Args:
        item_ids: (n, m) of each; -1 adds an event with no item that anybody knows.
        events: m kinds.
    """
    n, m = item_ids.shape
    place = np.repeat(histories.indptr[1:], m)

    def behind(column: NDArray[D], values: ArrayLike) -> NDArray[D]:
        added = np.broadcast_to(np.asarray(values, dtype=column.dtype), (n, m))
        return np.insert(column, place, added.ravel())

    return Histories(
        histories.indptr + m * np.arange(n + 1),
        behind(histories.item_ids, item_ids),
        behind(histories.timestamps, histories.as_of[:, None] + np.arange(m)),
        behind(histories.events, [int(event) for event in events]),
        behind(histories.ratings, np.nan),
        behind(histories.watch_seconds, watch_seconds),
        histories.as_of + m,
        histories.user_ids,
    )


def _with_strangers(histories: Histories, places: Index) -> Histories:
    """The same histories with an empty one before each of the places."""
    moment = int(histories.as_of.max(initial=0))
    return replace(
        histories,
        indptr=np.insert(histories.indptr, places, histories.indptr[places]),
        as_of=np.insert(histories.as_of, places, moment),
        user_ids=np.insert(histories.user_ids, places, -1),
    )
