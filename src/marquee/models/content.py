"""
Content: items described like those of the history.

Each item is a vector of its facts and words (genres, keywords, people, era, language, collection, title,
overview), weighted by TF-IDF and of length 1, or less where little is known. A history is the weighted
sum of its items' vectors, and items score the product with it. Nothing here needs an interaction: the
vocabulary holds every item of the catalogue, and what nobody has watched yet is recommended and found
similar like everything else.

Source:
    Lops, de Gemmis & Semeraro 2011, "Content-based recommender systems: state of the art and trends".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import CSR, Ids, Matrix, Vector
from marquee.errors import ModelError
from marquee.features.encode import FACTS, encode_items, tf_idf
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix

__all__ = ["Content", "ContentConfig"]


@dataclass(frozen=True)
class ContentConfig(RecencyConfig):
    """Hyper-parameters of `Content`."""

    history_half_life_events: float | None = tunable(
        10.0,
        "Newer events of the user after which an event counts half; none: all count alike.",
        choices=(None, 5.0, 10.0, 20.0, 50.0, 100.0),
    )
    kinds: tuple[str, ...] = tunable(
        (*FACTS, "title", "overview"), "The kinds of term, of `features.encode`."
    )
    min_items: int = tunable(2, "Terms of fewer items say nothing and are left out.", choices=(1, 2, 3, 5))
    damping: float = tunable(
        2.0, "How much an item of which little is known is held back.", low=0.0, high=8.0
    )


class Content(Recommender):
    """Items by what they are about; ranks items without interactions too."""

    name = "content"
    Config = ContentConfig
    config: ContentConfig
    _popularity: Vector  # (n_items,) for histories without terms
    _terms: CSR  # (n_items, n_terms) rows of length ≤ 1

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Describe every item of the catalogue; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows, catalog.item_ids if catalog is not None else None)
        X = training_matrix(rows, self.items, self.config)
        counts = np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=len(self.items))
        self._popularity = (counts / max(counts.max(initial=0.0), 1e-12)).astype(np.float32)
        encoded = encode_items(catalog, self.items, self.config.kinds, min_items=self.config.min_items)
        self._terms = tf_idf(encoded.matrix, self.config.damping)
        return self

    def score(self, histories: Histories) -> Matrix:
        """Likeness of history and item in [0, 1]; without a known term, popularity."""
        H = history_matrix(histories, self.items, self.config)  # (n, n_items)
        profiles = (H @ self._terms).toarray()  # (n, n_terms)
        lengths = np.sqrt(np.einsum("nt,nt->n", profiles, profiles))
        # A profile has some of the terms that most items have, so that a sparse product would save nothing.
        scores = np.ascontiguousarray((self._terms @ np.ascontiguousarray(profiles.T)).T, dtype=np.float32)
        known = lengths > 0
        scores /= np.where(known, lengths, np.float32(1.0))[:, None]
        scores[~known] = self._popularity
        return scores

    def similar(self, item_ids: Ids | Sequence[int], k: int = 10) -> RankedItems:
        """
        The k items most like each given one, itself left out.

        Args:
            item_ids: (n,) external ids; an unknown one, or one without terms, has an empty list.
            k: list length, > 0.

        Returns:
            (n, k) items with their likeness; items that share no term are left out.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        index = self.items.index(item_ids)
        known = np.flatnonzero(index >= 0)
        scores = np.full((len(index), len(self.items)), -np.inf, np.float32)
        scores[known] = (self._terms[index[known]] @ self._terms.T).toarray()
        scores[known, index[known]] = -np.inf
        scores[scores <= 0.0] = -np.inf
        return RankedItems.from_indices(*top_k(scores, k), self.items.ids)

    def state(self) -> ModelState:
        """Item ids, counts, popularity and the weighted terms."""
        arrays = {
            **self._items_state(),
            "popularity": self._popularity,
            "data": self._terms.data,
            "indices": self._terms.indices,
            "indptr": self._terms.indptr,
        }
        return ModelState(arrays, {"config": self.config.to_dict(), "n_terms": int(self._terms.shape[1])})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        if "n_terms" not in state.meta:
            raise ModelError("The state holds no terms.", fix="Train the model again.")
        model = cls(cls.Config.from_dict(state.meta["config"]))
        model._restore_items(state)
        model._popularity = state.arrays["popularity"]
        parts = (state.arrays["data"], state.arrays["indices"], state.arrays["indptr"])
        model._terms = CSR(parts, shape=(len(model.items), state.meta["n_terms"]))
        return model
