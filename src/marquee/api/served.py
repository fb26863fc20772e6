"""What one bundle serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from marquee.api.shelf import Shelf, image_url
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

__all__ = ["Cards", "Predictor", "Served", "card", "counted", "load"]

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
        pipeline: the model with the newest catalogue around it.
        shelf: that catalogue.
        similar: the similar items of each item, None where the bundle has none.
        cards: of the contents that the bundle knows.
    """

    deployment: Deployment
    model: Recommender
    pipeline: RecommendationPipeline
    shelf: Shelf
    similar: SimilarItems | None
    cards: Cards

    @property
    def name(self) -> str:
        """Model and version, as answers and logs name the bundle."""
        version = self.deployment.version or self.deployment.digest[:12]
        return f"{self.deployment.model}/{version}" if version else self.deployment.model

    @property
    def bundle(self) -> str:
        """Key of the bundle, as the database names it."""
        return self.deployment.bundle

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
        return replace(self, pipeline=_pipeline(self.model, shelf), shelf=shelf)


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


def load(objects: ObjectStore, cache: Path, deployment: Deployment, shelf: Shelf | None) -> Served:
    """
    A deployed bundle, verified and ready to answer.

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
    rows = bundle.cards.select(["item_id", "title", "poster_path", "overview"]).to_pylist()
    cards = {
        row["item_id"]: card(row["item_id"], row["title"], row["poster_path"], row["overview"])
        for row in rows
    }
    pipeline, similar = _pipeline(model, shelf), bundle.similar()
    if not isinstance(model, Mlp):
        return Served(deployment, model, pipeline, shelf, similar, cards)
    contents = {row["item_id"]: _content(row["item_id"], row["title"], row["poster_path"]) for row in rows}
    ids = model.items.ids.tolist()
    model.most_probable([5.0], [1.0], [60.0], k=1)  # so that the first request finds it warm
    return Predictor(
        deployment,
        model,
        pipeline,
        shelf,
        similar,
        cards,
        column_of={item_id: column for column, item_id in enumerate(ids)},
        rendered=[cards[item_id] for item_id in ids],
        content_ids=orjson.dumps({"count": len(ids), "available_content_ids": ids}),
        contents=orjson.dumps({"available_contents": [contents[i] for i in ids]}),
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
    return Served(deployment, model, _pipeline(model, shelf), shelf, None, {})


def card(item_id: int, title: str, poster_path: str | None, overview: str | None) -> bytes:
    """What an answer shows of a content, as JSON."""
    return orjson.dumps({**_content(item_id, title, poster_path), "overview": overview})


def _pipeline(model: Recommender, shelf: Shelf) -> RecommendationPipeline:
    made = RecommendationPipeline(model, shelf.catalog, blocked=shelf.blocked, editorial=shelf.editorial)
    made.warm_up()
    return made


def _content(item_id: int, title: str | None, poster_path: str | None) -> dict[str, Any]:
    return {
        "content_id": item_id,
        "title": title if title is not None else f"#{item_id}",
        "poster_url": image_url(poster_path),
    }
