"""What versions that do not serve would answer: their bundles, loaded when somebody asks."""

import asyncio
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from marquee.api.answers import Answer, Query
from marquee.api.lists import Made, Question, explained, make
from marquee.api.served import Served, load
from marquee.api.slots import Slots, in_thread
from marquee.api.users import UserState
from marquee.store.objects import ObjectStore
from marquee.store.repositories.deployments import Deployment

__all__ = ["Previews"]

MOST: Final = 2
"""Bundles that are kept for it: two versions are compared side by side."""


class Previews:
    """
    Lists by any version, for operators to look at: never shown, never noted, one at a time.

    Args:
        slots: what serves, and the newest catalogue.
        objects: where bundles are.
        cache: folder of unpacked bundles.
    """

    def __init__(self, slots: Slots, objects: ObjectStore, cache: Path) -> None:
        self._slots = slots
        self._objects = objects
        self._cache = cache
        self._loaded: OrderedDict[str, Served] = OrderedDict()  # by digest, the last used at the end
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, version: Deployment, state: UserState, query: Query) -> Answer:
        """
        The list that a version would give this user.

        Raises:
            IncompatibleBundleError: it does not verify.
            NotFoundError: its bundle is gone.
        """
        async with self._one_at_a_time:
            served = await self._bundle(version)
            return await in_thread(partial(_answer, served, state, query))

    async def _bundle(self, version: Deployment) -> Served:
        serving = self._slots.serving(version.digest)
        if serving is not None:
            await in_thread(serving.prepare)  # a predictor as a rule makes no lists
            return serving
        found = self._loaded.pop(version.digest, None)
        shelf = self._slots.shelf
        if found is None or (shelf is not None and found.shelf is not shelf):
            while len(self._loaded) >= MOST:
                self._loaded.popitem(last=False)
            found = await in_thread(partial(load, self._objects, self._cache, version, shelf))
            await in_thread(found.prepare)
        self._loaded[version.digest] = found
        return found


def _answer(served: Served, state: UserState, query: Query) -> Answer:
    made = make([Question(served.pipeline, state, query, 0.0)], np.random.default_rng(0))[0]
    if not isinstance(made, Made):
        raise made
    answer = Answer(
        made.item_ids,
        made.scores,
        "personal" if made.personal else "popular",
        "model",
        made.qualified,
        served,
    )
    if query.explain:
        answer.reasons = explained(served, state, made.item_ids)
    return answer
