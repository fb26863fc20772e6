"""
The deployed bundles in memory.

A slot is swapped by one assignment once its new bundle is loaded, verified and warm; a request holds on to
the `Served` that it began with. What answers show of items is rendered once, when a bundle is loaded.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from marquee.data.dataset import Histories
from marquee.data.ranked import top_k
from marquee.errors import IncompatibleBundleError, MarqueeError, NoChampionError
from marquee.models import Recommender
from marquee.models.mlp import Mlp
from marquee.recommend.pipeline import RecommendationPipeline
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.repositories.deployments import Deployment, Slot
from marquee.telemetry import get_logger

__all__ = ["Cards", "Predictor", "Served", "Slots", "card"]

SERVED_SLOTS: Final[tuple[Slot, ...]] = ("predictor", "champion")
RETRY_SECONDS: Final = 30.0
"""After this long a bundle that was refused is tried again: it may have been restored."""
IMAGE_BASE: Final = "https://image.tmdb.org/t/p/w500"

Cards = Mapping[int, orjson.Fragment]
"""Item id → card as JSON, ready to be put into an answer."""


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle that answers."""

    deployment: Deployment
    model: Recommender
    cards: Cards

    @property
    def name(self) -> str:
        """Model and version, as answers and logs name the bundle."""
        return f"{self.deployment.model}/{self.deployment.version or self.deployment.digest[:12]}"


@dataclass(frozen=True, eq=False)
class Predictor(Served):
    """
    A bundle that answers single events.

    Attributes:
        content_ids, contents: whole answers of `/available-content-ids` and `/available-contents`.
    """

    model: Mlp
    content_ids: bytes
    contents: bytes

    def predict(
        self, *, rating: float, popularity: float, watch_seconds: float, k: int, exclude: Iterable[int]
    ) -> list[tuple[int, float]]:
        """
        The k most probable items after an event.

        Args:
            exclude: external ids that must not be among them.

        Returns:
            (item id, probability) pairs, best first; fewer than k where fewer items are left.
        """
        scores = self.model.predict(rating=rating, popularity=popularity, watch_seconds=watch_seconds)
        column = self.model.items.index(np.fromiter(exclude, np.int64))
        scores[:, column[column >= 0]] = -np.inf
        columns, best = top_k(scores, k)  # (1, k) each
        found = columns[0] >= 0
        ids = self.model.items.ids[columns[0, found]]
        return list(zip(ids.tolist(), best[0, found].tolist(), strict=True))


class Slots:
    """
    What is served, by slot.

    Args:
        objects: where bundles are.
        cache: folder of unpacked bundles.
    """

    def __init__(self, objects: ObjectStore, cache: Path) -> None:
        self._objects = objects
        self._cache = cache
        self._served: Mapping[Slot, Served] = {}
        self._refused: dict[Slot, tuple[int, float]] = {}

    def get(self, slot: Slot) -> Served | None:
        """What a slot serves, None where nothing is."""
        return self._served.get(slot)

    def predictor(self) -> Predictor:
        """
        What answers `/predict`.

        Raises:
            NoChampionError: nothing is deployed there, or it could not be loaded.
        """
        served = self._served.get("predictor")
        if isinstance(served, Predictor):
            return served
        raise NoChampionError(
            "No model is deployed in the slot 'predictor'.",
            fix="Run `marquee pipeline run --model mlp`, or POST /run/train.",
        )

    def names(self) -> dict[str, str | None]:
        """Slot → bundle."""
        served = self._served
        return {slot: served[slot].name if slot in served else None for slot in SERVED_SLOTS}

    def refused(self) -> Sequence[Slot]:
        """The slots whose deployed bundle could not be loaded; the one before it still answers."""
        return sorted(self._refused)

    def cards(self) -> Cards:
        """The cards of all that is served; the predictor's win."""
        made: dict[int, orjson.Fragment] = {}
        for slot in reversed(SERVED_SLOTS):
            if slot in self._served:
                made.update(self._served[slot].cards)
        return made

    async def follow(self, deployed: Mapping[str, Deployment]) -> None:
        """
        Make what is deployed what is served.

        A bundle is loaded beside the event loop. One that is refused is logged, and the slot goes on
        serving what it had.
        """
        for slot in SERVED_SLOTS:
            wanted, served = deployed.get(slot), self._served.get(slot)
            if wanted is None or (served is not None and served.deployment == wanted):
                continue
            if served is not None and _same_bundle(served.deployment, wanted):
                self._swap(slot, replace(served, deployment=wanted))
                continue
            tried, retry_at = self._refused.get(slot, (None, 0.0))
            if tried == wanted.deployment_id and time.monotonic() < retry_at:
                continue
            try:
                loaded = await asyncio.to_thread(self._load, slot, wanted)
            except Exception as error:  # whatever is wrong with a bundle, the old one must go on serving
                self._refused[slot] = (wanted.deployment_id, time.monotonic() + RETRY_SECONDS)
                known = isinstance(error, MarqueeError)
                get_logger().error(
                    "slots.bundle_refused",
                    slot=slot,
                    bundle=wanted.bundle,
                    serving=served.name if served is not None else None,
                    error=str(error),
                    exc_info=None if known else error,
                )
                continue
            self._swap(slot, loaded)

    def _swap(self, slot: Slot, served: Served) -> None:
        self._served = {**self._served, slot: served}
        self._refused.pop(slot, None)
        get_logger().info("slots.swapped", slot=slot, bundle=served.name)

    def _load(self, slot: Slot, deployment: Deployment) -> Served:
        """The deployed bundle, verified and warm."""
        other = next((s for s in self._served.values() if _same_bundle(s.deployment, deployment)), None)
        if other is not None and (slot != "predictor" or isinstance(other, Predictor)):
            return replace(other, deployment=deployment)
        bundle = bundles.load(self._objects, deployment.bundle, self._cache)
        if bundle.ref.digest != deployment.digest:
            raise IncompatibleBundleError(
                f"The bundle {deployment.bundle} has the digest {bundle.ref.digest}, "
                f"not {deployment.digest} as deployed.",
                fix="Deploy it again.",
            )
        model = bundle.recommender()
        rendered = _Rendered(bundle.cards.select(["item_id", "title", "poster_path", "overview"]).to_pylist())
        if not isinstance(model, Mlp):
            if slot == "predictor":
                raise IncompatibleBundleError(
                    f"The slot 'predictor' needs an 'mlp', not the {deployment.model!r} {deployment.bundle}.",
                    fix="Run `marquee train --model mlp`.",
                )
            RecommendationPipeline(model).recommend(Histories.of_items([]), 1)
            return Served(deployment, model, rendered.cards)
        ids = model.items.ids.tolist()
        predictor = Predictor(
            deployment,
            model,
            rendered.cards,
            content_ids=orjson.dumps({"count": len(ids), "available_content_ids": ids}),
            contents=orjson.dumps({"available_contents": [rendered.contents[i] for i in ids]}),
        )
        predictor.predict(rating=5.0, popularity=1.0, watch_seconds=60.0, k=1, exclude=())
        return predictor


def card(item_id: int, title: str, poster_path: str | None, overview: str | None) -> orjson.Fragment:
    """What an answer shows of an item, as JSON."""
    content = _content(item_id, title, poster_path)
    return orjson.Fragment(orjson.dumps({**content, "overview": overview}))


class _Rendered:
    """Cards of a bundle, with and without overview."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.cards = {
            row["item_id"]: card(row["item_id"], row["title"], row["poster_path"], row["overview"])
            for row in rows
        }
        self.contents = {
            row["item_id"]: _content(row["item_id"], row["title"], row["poster_path"]) for row in rows
        }


def _content(item_id: int, title: str | None, poster_path: str | None) -> dict[str, Any]:
    return {
        "content_id": item_id,
        "title": title if title is not None else f"#{item_id}",
        "poster_url": _poster_url(poster_path),
    }


def _poster_url(path: str | None) -> str | None:
    """Paths are TMDB's; a catalogue of one's own may give whole addresses."""
    if not path:
        return None
    return path if path.startswith(("http://", "https://")) else f"{IMAGE_BASE}/{path.lstrip('/')}"


def _same_bundle(one: Deployment, other: Deployment) -> bool:
    return (one.bundle, one.digest) == (other.bundle, other.digest)
