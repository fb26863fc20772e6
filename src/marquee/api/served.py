"""What one bundle serves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from marquee.api.shelf import Shelf, image_url, slowly
from marquee.data.schema import Ids, Index, Vector
from marquee.errors import IncompatibleBundleError, NotFoundError
from marquee.models import Recommender
from marquee.models.base import ModelState
from marquee.models.mlp import Mlp
from marquee.models.popularity import Popularity, PopularityConfig
from marquee.recommend.new_items import WithNewItems
from marquee.recommend.pipeline import RecommendationPipeline
from marquee.recommend.similar import SimilarItems
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.repositories.deployments import Deployment

__all__ = ["Around", "Cards", "Predictor", "Served", "card", "counted", "load"]

Cards = Mapping[int, bytes]
"""Item id → card as JSON, ready to be put into an answer."""
SIMILAR_ITEMS: Final = 1_000
"""More than a bundle keeps of any item."""
_NOTHING: Final = (np.empty(0, np.int64), np.empty(0, np.float32))
COUNTED: Final = "popularity"
"""The bundle of a popularity that this process has counted itself."""


@dataclass(frozen=True, eq=False)
class Served:
    """
    A bundle that answers.

    Attributes:
        deployment: the first that brought it here.
        around: the model with the newest catalogue around it.
        shelf: that catalogue.
        similar: the similar items of each item, None where the bundle has none.
        cards: of the contents that the bundle knows.
    """

    deployment: Deployment
    model: Recommender
    around: "Around"
    shelf: Shelf
    similar: SimilarItems | None
    cards: Cards

    @cached_property
    def name(self) -> str:
        """Model and version, as answers and logs name the bundle."""
        version = self.deployment.version or self.deployment.digest[:12]
        return f"{self.deployment.model}/{version}" if version else self.deployment.model

    @property
    def bundle(self) -> str:
        """Key of the bundle, as the database names it."""
        return self.deployment.bundle

    @property
    def pipeline(self) -> RecommendationPipeline:
        """What recommends; unless `prepare` was called, the first to ask waits for it."""
        return self.around.pipeline

    def prepare(self) -> None:
        """Do now what the first list would otherwise wait for."""
        self.around.pipeline  # noqa: B018

    def similar_to(self, item_id: int) -> tuple[Ids, Vector]:
        """
        External ids of the items like one, the most similar first, and their similarities.

        Raises:
            NotFoundError: neither the bundle nor the catalogue knows the item.
        """
        if self.similar is not None:
            ranked = self.similar.similar([item_id], SIMILAR_ITEMS)
            found = ranked.item_ids[0] >= 0
            if found.any() or item_id in self.similar.items:
                return ranked.item_ids[0][found], ranked.scores[0][found]
        if item_id not in self.pipeline.scorer.items:
            raise NotFoundError(f"There is no film {item_id}.", fix="GET /v1/items lists the films.")
        scorer = self.pipeline.scorer
        return scorer.neighbours(item_id) if isinstance(scorer, WithNewItems) else _NOTHING

    def on(self, shelf: Shelf) -> "Served":
        """The same bundle with another catalogue; takes long for large ones."""
        made = replace(self, around=Around(self.model, shelf), shelf=shelf)
        if self.around.is_made:
            made.prepare()
        return made


class Around:
    """
    A model with a catalogue around it; takes long to make, and a predictor as a rule needs none.

    Attributes:
        number: its own, for those who must not keep it alive.
    """

    _numbers = count()

    def __init__(self, model: Recommender, shelf: Shelf) -> None:
        self.number = next(self._numbers)
        self._model = model
        self._shelf = shelf

    @property
    def is_made(self) -> bool:
        """Whether anybody has asked for it."""
        return "pipeline" in self.__dict__

    @cached_property
    def pipeline(self) -> RecommendationPipeline:
        """Made and warm."""
        shelf = self._shelf
        made = RecommendationPipeline(
            self._model, shelf.catalog, blocked=shelf.blocked, editorial=shelf.editorial
        )
        made.warm_up()
        return made


@dataclass(frozen=True, eq=False)
class Predictor(Served):
    """
    A bundle that answers single events, too.

    Attributes:
        column_of: item id → column of the model.
        rendered: the card of each column.
        content_ids, contents: whole answers of `/available-content-ids` and `/available-contents`.
    """

    model: Mlp
    column_of: Mapping[int, int]
    rendered: Sequence[bytes]
    content_ids: bytes
    contents: bytes

    def cards_of(self, columns: Sequence[int], lang: str | None) -> list[bytes]:
        """The cards of columns, in a language where there is such a text."""
        rendered, translation = self.rendered, self.shelf.translations.find(lang)
        if translation is None:
            return [rendered[column] for column in columns]
        ids = self.model.items.ids
        return [translation.card(int(ids[column]), rendered[column]) for column in columns]


def load(objects: ObjectStore, cache: Path, deployment: Deployment, shelf: Shelf | None) -> Served:
    """
    A deployed bundle, verified and ready to answer, for lists once it is prepared.

    Args:
        objects: where bundles are.
        cache: folder of unpacked bundles.
        shelf: the newest catalogue; none: the bundle's own.

    Raises:
        IncompatibleBundleError: it does not verify, or is another than was deployed.
        NotFoundError: there is no such bundle.
    """
    bundle = bundles.load(objects, deployment.bundle, cache)
    if bundle.ref.digest != deployment.digest:
        raise IncompatibleBundleError(
            f"The bundle {deployment.bundle} has the digest {bundle.ref.digest}, "
            f"not {deployment.digest} as deployed.",
            fix="Deploy it again.",
        )
    model = bundle.recommender()
    shelf = Shelf(bundle.catalog()) if shelf is None else shelf
    cards = _BundleCards(bundle.cards)
    around, similar = Around(model, shelf), bundle.similar()
    if not isinstance(model, Mlp):
        return Served(deployment, model, around, shelf, similar, cards)
    ids = model.items.ids.tolist()
    rows = {row["item_id"]: row for row in cards.rows(ids)}
    contents = [_content(i, rows[i]["title"], rows[i]["poster_path"]) for i in ids]
    model.most_probable([5.0], [1.0], [60.0], k=1)  # so that the first request finds it warm
    return Predictor(
        deployment,
        model,
        around,
        shelf,
        similar,
        cards,
        column_of={item_id: column for column, item_id in enumerate(ids)},
        rendered=[cards.render(rows[item_id]) for item_id in ids],
        content_ids=orjson.dumps({"count": len(ids), "available_content_ids": ids}),
        contents=orjson.dumps({"available_contents": contents}),
    )


def counted(item_ids: Ids, counts: Index, shelf: Shelf) -> Served:
    """
    Popularity by the counts of a database, for when nothing is deployed.

    Args:
        item_ids: (m,) external ids.
        counts: (m,) of their interactions.
        shelf: the catalogue; its other items follow without any.
    """
    order = np.lexsort((item_ids, -counts))
    others = np.setdiff1d(shelf.catalog.item_ids, item_ids)
    ids = np.concatenate([item_ids[order], others])
    every = np.concatenate([counts[order], np.zeros(len(others), np.int64)])
    arrays: dict[str, Any] = {
        "item_ids": ids,
        "item_counts": every,
        "scores": (every / max(int(every.max(initial=0)), 1)).astype(np.float32),
    }
    model = Popularity.from_state(ModelState(arrays, {"config": PopularityConfig().to_dict()}))
    deployment = Deployment(
        0, "champion", COUNTED, "", COUNTED, None, "", "Nothing is deployed.", None, None, datetime.now(UTC)
    )
    made = Served(deployment, model, Around(model, shelf), shelf, None, {})
    made.prepare()
    return made


def card(item_id: int, title: str, poster_path: str | None, overview: str | None) -> bytes:
    """What an answer shows of a content, as JSON."""
    made = orjson.dumps({**_content(item_id, title, poster_path), "overview": overview})
    return bytes(memoryview(made))  # a copy, as the original goes on holding the kilobytes it was written in


class _BundleCards(Mapping[int, bytes]):
    """The cards of a bundle's items, each rendered when it is first asked for: most never are."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.select(["item_id", "title", "poster_path", "overview"])
        ids = self._table["item_id"].to_numpy().tolist()
        self._row = dict(zip(ids, range(len(ids)), strict=True))
        self._made: dict[int, bytes] = {}

    def __getitem__(self, item_id: int) -> bytes:
        made = self._made.get(item_id)
        return made if made is not None else self.render(self.rows([item_id])[0])

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._row

    def __iter__(self) -> Iterator[int]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def rows(self, item_ids: Sequence[int]) -> list[dict[str, Any]]:
        """What is known of items, in their order."""
        return list(slowly(self._table.take(pa.array([self._row[i] for i in item_ids], pa.int64()))))

    def render(self, row: Mapping[str, Any]) -> bytes:
        """The card of an item, kept."""
        made = card(row["item_id"], row["title"], row["poster_path"], row["overview"])
        self._made[row["item_id"]] = made
        return made


def _content(item_id: int, title: str | None, poster_path: str | None) -> dict[str, Any]:
    return {
        "content_id": item_id,
        "title": title if title is not None else f"#{item_id}",
        "poster_url": image_url(poster_path),
    }
