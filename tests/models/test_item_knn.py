"""ItemKNN compares items by the users they share."""

import numpy as np
import pytest

from marquee.data import Histories, Interactions
from marquee.errors import ModelError
from marquee.models import ItemKnn, ModelState
from marquee.models.item_knn import ItemKnnConfig
from marquee.testing import RecommenderConformance

PLAIN = {
    "training_half_life_days": None,
    "history_half_life_events": None,
    "history_half_life_days": None,
    "rating_weight": 0.0,
}
ROWS = Interactions.of(
    [1, 1, 2, 2, 3, 3, 4], [10, 20, 10, 20, 10, 30, 10], np.arange(7)
)  # 10: users 1 2 3 4; 20: users 1 2; 30: user 3


class TestBm25(RecommenderConformance):
    """The default."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return ItemKnn()


class TestCosine(RecommenderConformance):
    """Few neighbours and a shrunk cosine."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return ItemKnn(ItemKnnConfig(similarity="cosine", neighbours=15, shrinkage=2.0))


def test_cosine_is_shared_users_over_lengths():
    """Known answer: cos(10, 20) = 2 / √(4·2), cos(10, 30) = 1 / √(4·1), cos(20, 30) = 0."""
    model = ItemKnn(ItemKnnConfig(similarity="cosine", shrinkage=0.0, **PLAIN)).fit(ROWS)
    assert model.items.ids.tolist() == [10, 20, 30]
    scores = model.score(Histories.of_items([10], [20]))
    np.testing.assert_allclose(scores, [[0, 2 / np.sqrt(8), 0.5], [2 / np.sqrt(8), 0, 0]], rtol=1e-6)


def test_shrinkage_holds_back_similarities_of_few_users():
    """One shared user of a rare item counts less, relative to two of a common one."""
    plain, shrunk = (
        ItemKnn(ItemKnnConfig(similarity="cosine", shrinkage=shrinkage, **PLAIN))
        .fit(ROWS)
        .score(Histories.of_items([10]))[0]
        for shrinkage in (0.0, 10.0)
    )
    assert shrunk[2] / shrunk[1] < plain[2] / plain[1]


def test_bm25_equals_its_formula():
    """Known answer with naive loops."""
    config = ItemKnnConfig(similarity="bm25", bm25_saturation=1.5, bm25_length=0.4, **PLAIN)
    model = ItemKnn(config).fit(ROWS)
    X = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]], dtype=float)
    W = np.zeros_like(X)
    for u in range(4):
        for i in range(3):
            if X[u, i]:
                length = 0.6 + 0.4 * X[:, i].sum() / (X.sum() / 3)
                rarity = np.log(1 + (3 - X[u].sum() + 0.5) / (X[u].sum() + 0.5))
                W[u, i] = 2.5 / (1.5 * length + 1) * rarity
    S = W.T @ W
    np.fill_diagonal(S, 0)
    np.testing.assert_allclose(model.score(Histories.of_items([10], [20], [30])), S, rtol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "bm25"])
def test_only_the_nearest_neighbours_are_kept(similarity):
    """K entries per row, and they are the greatest of the full similarity."""
    rng = np.random.default_rng(0)
    rows = Interactions.of(rng.integers(0, 50, 900), rng.integers(0, 60, 900), rng.integers(0, 99, 900))
    every, few = (
        ItemKnn(ItemKnnConfig(similarity=similarity, neighbours=k, **PLAIN)).fit(rows) for k in (1000, 7)
    )
    single = Histories.of_items(*[[item] for item in every.items.ids.tolist()])
    full, cut = every.score(single), few.score(single)
    assert ((cut > 0).sum(axis=1) <= 7).all()
    np.testing.assert_allclose(np.sort(cut, axis=1)[:, -7:], np.sort(full, axis=1)[:, -7:])


def test_newer_events_of_a_history_count_more():
    """The same two items in the other order move the list towards the newer one."""
    rows = Interactions.of([1, 1, 2, 2], [10, 11, 20, 21], [1, 1, 1, 1])
    model = ItemKnn(ItemKnnConfig(history_half_life_events=1.0)).fit(rows)
    scores = model.score(Histories.of_items([10, 20], [20, 10]))
    a, b = model.items.index([11, 21])
    assert scores[0, b] > scores[0, a]
    assert scores[1, a] > scores[1, b]


def test_unknown_similarity_is_refused():
    """A misspelt choice does not fall back to another."""
    with pytest.raises(ValueError, match="cosine or bm25"):
        ItemKnnConfig(similarity="jaccard")


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become ItemKNN."""
    with pytest.raises(ModelError, match="similarities"):
        ItemKnn.from_state(ModelState({}, {"config": {}}))
