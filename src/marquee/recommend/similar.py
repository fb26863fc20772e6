"""
Similar items: watched by the same people, and about the same things.

    similarity = trust · collaborative + (1 − trust) · content,    trust = most · n / (n + prior)

Collaborative is the correlation of who watched the items, damped by a shrinkage: a cosine would call any two
popular items alike. Content is the cosine of their facts and words. n is how often the rarer was watched. All
three are symmetric, and so is the blend: a new item is placed by what it is about, a well-known one by who
watches it, too. The lists are made once, offline; a request reads a row of them.

Source:
    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms"; Bell & Koren 2007
    (shrinkage); Mobasher et al. 2004, "Semantically enhanced collaborative filtering on the Web" (blend).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Interactions
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import CSR, Ids, Matrix
from marquee.data.vocabulary import Vocabulary
from marquee.errors import ModelError
from marquee.features.encode import FACTS, encode_items, tf_idf
from marquee.models.base import ModelConfig, ModelState, tunable
from marquee.recommend.filters import Mask

__all__ = ["SimilarConfig", "SimilarItems", "content_vectors"]

BLOCK: Final = 512
DAMPING: Final = 0.5
"""How much an item of which little is known is held back, see `features.encode.tf_idf`."""


@dataclass(frozen=True)
class SimilarConfig(ModelConfig):
    """Hyper-parameters of `SimilarItems`."""

    neighbours: int = tunable(100, "Similar items kept of each item: what filters can choose from.")
    trust_prior: float = tunable(
        20.0, "Interactions of the rarer item at which the trust is half its greatest.", low=1.0, high=200.0
    )
    most_trust: float = tunable(0.5, "Trust in the collaborative signal at its greatest.", low=0.0, high=1.0)
    shrinkage: float = tunable(10.0, "Added to the denominator of the correlation.", low=0.0, high=100.0)
    newest_events: int = tunable(300, "Events per user that count, the newest; bounds the work.")


class SimilarItems:
    """
    The nearest items of each item.

    Attributes:
        items: those with interactions, most frequent first, then the rest of the catalogue.
        neighbours: (n_items, m) item indices, most similar first, -1 as padding.
        similarities: (n_items, m) in (0, 1], NaN as padding.
    """

    def __init__(
        self,
        items: Vocabulary,
        neighbours: NDArray[np.int32],
        similarities: Matrix,
        config: SimilarConfig | None = None,
    ) -> None:
        self.config = config if config is not None else SimilarConfig()
        self.items = items
        self.neighbours = neighbours
        self.similarities = similarities

    @classmethod
    def fit(
        cls, interactions: Interactions, catalog: Catalog | None = None, config: SimilarConfig | None = None
    ) -> Self:
        """
        Compare all items with one another.

        Args:
            interactions: who watched what; may be empty.
            catalog: facts; without it, only who watched what counts.
            config: hyper-parameters.
        """
        config = config if config is not None else SimilarConfig()
        rows = interactions.positives()
        items = Vocabulary.by_count(rows.item_ids)
        if catalog is not None:
            items = Vocabulary(np.concatenate([items.ids, np.setdiff1d(catalog.item_ids, items.ids)]))
        users = _by_item(rows, items, config.newest_events)  # (n_items, n_users), binary
        counts = np.diff(users.indptr).astype(np.float32)
        share = counts / np.float32(max(users.shape[1], 1))
        spread = np.sqrt(counts * (1.0 - share))  # of an item's column of zeros and ones
        content = content_vectors(items, catalog)
        n, width = len(items), max(min(config.neighbours, len(items) - 1), 1)
        neighbours = np.full((n, width), -1, dtype=np.int32)
        similarities = np.full((n, width), np.nan, dtype=np.float32)
        users_by_user, terms = users.T.tocsr(), content.T.tocsr()
        for start in range(0, n, BLOCK):
            block = slice(start, start + BLOCK)
            together = (users[block] @ users_by_user).toarray()  # (b, n_items) users in common
            together -= counts[block, None] * share
            together /= spread[block, None] * spread + np.float32(max(config.shrinkage, 1e-6))
            alike = (content[block] @ terms).toarray()
            trust = np.minimum(counts[block, None], counts)
            trust *= np.float32(config.most_trust) / (trust + np.float32(config.trust_prior))
            blend = trust * together + (1.0 - trust) * alike if catalog is not None else together
            own = np.arange(len(blend))
            blend[own, start + own] = -np.inf
            blend[blend <= 0.0] = -np.inf
            neighbours[block], similarities[block] = top_k(blend, width)
        return cls(items, neighbours, similarities, config)

    def similar(
        self, item_ids: Ids | Sequence[int], k: int = 10, *, allowed: Mask | None = None
    ) -> RankedItems:
        """
        The k items most similar to each given one.

        Args:
            item_ids: (n,) external ids; an unknown one has an empty list.
            k: list length, > 0.
            allowed: (n_items,) which items may be listed, as from `ItemFacts.mask` over the same vocabulary.

        Raises:
            ValueError: k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        index = self.items.index(item_ids)
        if not len(self.items):
            return RankedItems.from_indices(np.full((len(index), k), -1), _nan(len(index), k), self.items.ids)
        near = np.where(index[:, None] >= 0, self.neighbours[index], -1).astype(np.int64)
        values = np.where(near >= 0, self.similarities[index], -np.inf).astype(np.float32)
        if allowed is not None:
            values[~allowed[near]] = -np.inf
        place, values = top_k(values, k)
        found = np.where(place >= 0, np.take_along_axis(near, np.maximum(place, 0), axis=1), -1)
        return RankedItems.from_indices(found, values, self.items.ids)

    def state(self) -> ModelState:
        """Item ids and lists, as a bundle keeps them."""
        arrays: dict[str, NDArray[Any]] = {
            "item_ids": self.items.ids,
            "neighbours": self.neighbours,
            "similarities": self.similarities,
        }
        return ModelState(arrays, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """
        The lists of a state; arrays may be read-only memory maps and are not copied.

        Raises:
            ModelError: the state holds no such lists.
        """
        try:
            return cls(
                Vocabulary(state.arrays["item_ids"]),
                state.arrays["neighbours"],
                state.arrays["similarities"],
                SimilarConfig.from_dict(state.meta["config"]),
            )
        except KeyError as error:
            raise ModelError(f"The state lacks {error} of similar items.", fix="Train again.") from error


def content_vectors(items: Vocabulary, catalog: Catalog | None) -> CSR:
    """
    What items are about, as vectors of length ≤ 1 whose dot products are likenesses.

    Returns:
        (n_items, n_terms) float32 CSR over facts, title and overview; an item of which little is known is
        shorter.
    """
    terms = encode_items(catalog, items, (*FACTS, "title", "overview"), min_items=2)
    return tf_idf(terms.matrix, DAMPING) if terms.names else terms.matrix


def _by_item(rows: Interactions, items: Vocabulary, newest: int) -> CSR:
    """(n_items, n_users) binary, of each user's newest events."""
    rows = rows.take(np.lexsort((rows.item_ids, rows.timestamps, rows.user_ids)))
    users, starts, counts = np.unique(rows.user_ids, return_index=True, return_counts=True)
    behind = np.repeat(starts + counts, counts) - np.arange(len(rows))  # 1 is the newest
    return CSR(rows.take(behind <= newest).matrix(Vocabulary(users), items).T)


def _nan(n: int, k: int) -> Matrix:
    return np.full((n, k), np.nan, dtype=np.float32)
