"""What is asked of the recommender, what it answers, and how that is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from marquee.api.served import Served
from marquee.api.translations import Translation
from marquee.recommend.explain import Explanation
from marquee.recommend.filters import Filters

__all__ = ["ANYTHING", "DEGRADED_HEADER", "Answer", "Query", "Source", "Tier", "write", "write_similar"]

Tier = Literal["personal", "session", "popular"]
Source = Literal["model", "precomputed", "popular"]

ANYTHING: Final = Filters()
DEGRADED_HEADER: Final = "X-Marquee-Degraded"


@dataclass(frozen=True, slots=True)
class Query:
    """
    What a list must be.

    Attributes:
        exclude: external ids that may not be in it.
        diversity: 0 (the best by score) to 1 (as varied as can be).
        explain: whether each item comes with its reasons.
        lang: language that items are shown in, where there is such a text.
        is_plain: whether a list that was made for nothing in particular would do.
    """

    k: int = 10
    filters: Filters = ANYTHING
    exclude: tuple[int, ...] = ()
    diversity: float = 0.0
    explain: bool = False
    lang: str | None = None

    is_plain: bool = field(init=False)

    def __post_init__(self) -> None:
        plain = not (self.exclude or self.diversity or self.explain) and self.filters == ANYTHING
        object.__setattr__(self, "is_plain", plain)


@dataclass(slots=True)
class Answer:
    """
    A list of one user, best first.

    Attributes:
        item_ids: external ids.
        scores: of the model; of a popular list, the share of the most popular item.
        tier: what the list knows of the user.
        source: what made it.
        qualified: items that could have been in it.
        served: the bundle that made it.
        arm, experiment_id: of the experiment that the user is in.
        propensities: of each item in its place, None where all are 1.
        degraded: what it had to do without.
        error: why the arm could not answer and another bundle did.
        reasons: of each item, on request.
    """

    item_ids: list[int]
    scores: list[float]
    tier: Tier
    source: Source
    qualified: int
    served: Served
    arm: str | None = None
    experiment_id: int | None = None
    propensities: list[float] | None = None
    degraded: tuple[str, ...] = ()
    error: str | None = None
    reasons: Sequence[Explanation] | None = None
    duration_ms: float = 0.0


def write(answer: Answer, request_id: str, user_id: int | None, lang: str | None = None) -> bytes:
    """An answer as JSON."""
    return (
        b'{"request_id":"%b","user_id":%b,"bundle":%b,"tier":"%b","source":"%b","qualified":%d,"items":[%b]}'
        % (
            request_id.encode(),
            b"null" if user_id is None else b"%d" % user_id,
            orjson.dumps(answer.served.name),
            answer.tier.encode(),
            answer.source.encode(),
            answer.qualified,
            _items(answer, lang),
        )
    )


def write_similar(answer: Answer, request_id: str, item_id: int, lang: str | None = None) -> bytes:
    """A list of films like another as JSON."""
    return b'{"request_id":"%b","item_id":%d,"bundle":%b,"qualified":%d,"items":[%b]}' % (
        request_id.encode(),
        item_id,
        orjson.dumps(answer.served.name),
        answer.qualified,
        _items(answer, lang),
    )


def _items(answer: Answer, lang: str | None) -> bytes:
    """Ranked items, without brackets: rank, score and card, and the reasons where there are some."""
    served, reasons = answer.served, answer.reasons
    cards, missing = served.shelf.cards, served.shelf.card
    translation = served.shelf.translations.find(lang)
    made = []
    for rank, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores, strict=True), start=1):
        card = cards.get(item_id) or missing(item_id)
        if translation is not None:
            card = translation.card(item_id, card)
        made.append(b'{"rank":%d,"score":%.7g,%b' % (rank, score, card))  # what a float32 holds
    if reasons is None:
        return b"},".join(made) + (b"}" if made else b"")
    explained = zip(made, reasons, strict=True)
    return b",".join(
        b'%b,"reasons":%b}' % (item, _reasons(served, why, translation)) for item, why in explained
    )


def _reasons(served: Served, why: Explanation, translation: Translation | None) -> bytes:
    because = []
    for reason in why.because:
        card = served.shelf.card(reason.item_id)
        if translation is not None:
            card = translation.card(reason.item_id, card)
        because.append(b'{"share":%.7g,%b}' % (reason.share, card))
    return b'{"because":[%b],"features":%b}' % (b",".join(because), orjson.dumps(why.features))
