"""How a list is made: by a model, from what a batch has made, by counting, or by likeness."""

import time
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from marquee.api.answers import Answer, Query
from marquee.api.served import Served
from marquee.api.users import Precomputed, UserState, histories
from marquee.data.schema import Ids
from marquee.recommend.explain import Explanation, explain
from marquee.recommend.pipeline import RecommendationPipeline

__all__ = ["Made", "Question", "explained", "make", "popular", "precomputed", "similar", "without_model"]


class Question(NamedTuple):
    """A list to be made by a pipeline."""

    pipeline: RecommendationPipeline
    state: UserState
    query: Query
    exploration: float

    @property
    def kind(self) -> Hashable:
        """Questions of one kind are computed together."""
        query = self.query
        return id(self.pipeline), query.k, query.filters, query.diversity, self.exploration


class Made(NamedTuple):
    """A list that a pipeline has made."""

    item_ids: list[int]
    scores: list[float]
    propensities: list[float] | None
    personal: bool
    qualified: int


def make(questions: Sequence[Question], rng: np.random.Generator) -> list[Made | Exception]:
    """Lists by models, those of one kind together; safe in any thread."""
    kinds: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        kinds.setdefault(question.kind, []).append(place)
    made: list[Any] = [None] * len(questions)
    for places in kinds.values():
        for place, one in zip(places, _together([questions[place] for place in places], rng), strict=True):
            made[place] = one
    return made


def _together(questions: Sequence[Question], rng: np.random.Generator) -> list[Made]:
    """The lists of questions of one kind."""
    pipeline, _, query, exploration = questions[0]
    states = [question.state for question in questions]
    ranked = pipeline.recommend(
        histories(states, time.time_ns() // 1000),
        query.k,
        filters=query.filters,
        seen=_seen(questions),
        diversity=query.diversity,
        exploration=exploration,
        rng=rng if exploration else None,
    )
    lengths = (ranked.item_ids >= 0).sum(axis=1).tolist()
    propensities = ranked.propensities.tolist() if exploration else [None] * len(states)
    return [
        Made(ids[:n], scores[:n], chances and chances[:n], personal, qualified)
        for n, ids, scores, chances, personal, qualified in zip(
            lengths,
            ranked.item_ids.tolist(),
            ranked.scores.tolist(),
            propensities,
            ranked.personal.tolist(),
            ranked.qualified.tolist(),
            strict=True,
        )
    ]


def _seen(questions: Sequence[Question]) -> tuple[Ids, Ids]:
    """Rows and external ids of what may not be in the lists."""
    parts = [
        np.append(question.state.seen, question.query.exclude).astype(np.int64)
        if question.query.exclude
        else question.state.seen
        for question in questions
    ]
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts]), np.concatenate(parts)


def precomputed(served: Served, state: UserState, query: Query, exploration: float) -> Answer | None:
    """The list that a batch made, where it is what the model would answer."""
    ready = state.precomputed
    if ready is None or exploration or ready.bundle != served.bundle:
        return None
    answer = _from_list(served, state, query)
    if answer is None or len(answer.item_ids) < query.k:
        return None
    pinned = served.pipeline.choices.pinned
    if pinned and not _begins_with(answer, _open(served, pinned, query, state.seen)):
        return None  # pinned since; what is pinned no more leaves these lists with the next batch
    return answer


def _begins_with(answer: Answer, item_ids: list[int]) -> bool:
    return answer.item_ids[: len(item_ids)] == item_ids[: len(answer.item_ids)]


def _open(served: Served, item_ids: list[int], query: Query, seen: Ids) -> list[int]:
    """Those of some items that may be shown."""
    facts, hidden = served.pipeline.facts, set(seen.tolist())
    shown = facts.mask(query.filters)[facts.items.index(item_ids)].tolist()
    return [item_id for item_id, ok in zip(item_ids, shown, strict=True) if ok and item_id not in hidden]


class _Shown(NamedTuple):
    """
    What is true of a precomputed list for as long as neither its user nor the catalogue changes.

    Attributes:
        number: of the model with its catalogue.
        places: of the list that may be shown, None where that is all.
        qualified: items that could have been in it.
    """

    number: int
    places: list[int] | None
    qualified: int


def _from_list(served: Served, state: UserState, query: Query) -> Answer | None:
    """What of a precomputed list may be shown, None where that is nothing."""
    ready = state.precomputed
    if ready is None:
        return None
    if query.is_plain:
        shown = ready.shown
        if shown is None or shown[0] != served.around.number:
            shown = ready.shown = _look_through(served, state, ready, query)
    else:
        shown = _look_through(served, state, ready, query)
    _, places, qualified = shown
    if places is None:
        item_ids, scores = ready.item_ids[: query.k], ready.scores[: query.k]
    else:
        item_ids, scores = ready.item_ids[places[: query.k]], ready.scores[places[: query.k]]
    if not len(item_ids):
        return None
    return Answer(item_ids.tolist(), scores.tolist(), "personal", "precomputed", qualified, served)


def _look_through(served: Served, state: UserState, ready: Precomputed, query: Query) -> _Shown:
    facts = served.pipeline.facts
    mask = facts.mask(query.filters)
    taken = np.union1d(state.seen, query.exclude).astype(np.int64) if query.exclude else state.seen
    n = len(ready.item_ids)
    index = facts.items.index(np.concatenate([ready.item_ids, taken]))
    known = index >= 0
    shown = mask[index] & known
    hidden = set(taken.tolist())  # of so few items faster than NumPy's
    places = [
        place
        for place, (item_id, is_open) in enumerate(
            zip(ready.item_ids.tolist(), shown[:n].tolist(), strict=True)
        )
        if is_open and item_id not in hidden
    ]
    qualified = int(np.count_nonzero(mask)) - int(np.count_nonzero(shown[n:]))
    return _Shown(served.around.number, None if len(places) == n else places, qualified)


def without_model(served: Served, state: UserState, query: Query) -> Answer:
    """What can be had without the model: the precomputed list, and what is popular where that ends."""
    counted = popular(served, query, state.seen)
    answer = _from_list(served, state, query)
    if answer is None:
        return counted
    listed = set(answer.item_ids)
    more = [
        (item_id, score)
        for item_id, score in zip(counted.item_ids, counted.scores, strict=True)
        if item_id not in listed
    ][: query.k - len(listed)]
    answer.item_ids += [item_id for item_id, _ in more]
    answer.scores += [score for _, score in more]
    return answer


def popular(served: Served, query: Query, seen: Ids, *, diversity: float = 0.0) -> Answer:
    """
    The most frequent items that may be shown, by their share of the first, behind what editors pin.

    Args:
        diversity: 0 to 1, of those behind; takes some milliseconds.
    """
    pipeline = served.pipeline
    mask = pipeline.facts.without(
        pipeline.facts.mask(query.filters), np.append(seen, np.array(query.exclude, np.int64))
    )
    index = np.flatnonzero(mask)  # the vocabulary is in the order of the counts
    pinned = index[:0]
    if pipeline.choices.pinned:
        pinned = pipeline.facts.items.index(pipeline.choices.pinned)
        pinned = pinned[mask[pinned]]
        index = np.concatenate([pinned, index[~np.isin(index, pinned)]])
    counts = pipeline.scorer.item_counts
    first = index[: query.k]
    if diversity and len(pinned) < query.k:
        varied = pipeline.varied(index[len(pinned) :], query.k - len(pinned), diversity)
        first = np.concatenate([pinned, varied])
    scores = counts[first] / max(int(counts.max(initial=0)), 1)
    return Answer(
        pipeline.scorer.items.ids[first].tolist(), scores.tolist(), "popular", "popular", len(index), served
    )


def similar(served: Served, item_id: int, query: Query) -> Answer:
    """The similar items of one item that may be shown, by their similarity."""
    ids, scores = served.similar_to(item_id)
    facts = served.pipeline.facts
    index = facts.items.index(ids)
    shown = (index >= 0) & facts.mask(query.filters)[index] & (ids != item_id)
    if query.exclude:
        shown &= ~np.isin(ids, np.array(query.exclude, np.int64))
    found = np.flatnonzero(shown)
    first = found[: query.k]
    return Answer(ids[first].tolist(), scores[first].tolist(), "popular", "model", len(found), served)


def explained(served: Served, state: UserState, item_ids: list[int]) -> Sequence[Explanation]:
    """The reasons of each item of a list."""
    return explain(served.pipeline.scorer, histories([state], time.time_ns() // 1000), item_ids)
