"""EASE is the ridge regression that its formula says, whichever way it is solved."""

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Histories, Interactions
from marquee.data.schema import CSR
from marquee.errors import ModelError
from marquee.models import Ease, ModelState, ease
from marquee.models.ease import EaseConfig, _gram, _solve_in_item_space
from marquee.models.recency import training_matrix
from marquee.testing import RecommenderConformance, planted_tastes

PLAIN = {
    "training_half_life_days": None,
    "history_half_life_events": None,
    "history_half_life_days": None,
    "rating_weight": 0.0,
    "facts_weight": 0.0,
}


class TestInItemSpace(RecommenderConformance):
    """More users than items: the inverse of the Gram matrix."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Ease(EaseConfig(ridge=5.0))


class TestHeadAndTail(RecommenderConformance):
    """A catalogue past `dense_items`: dense head, sparse tail."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Ease(EaseConfig(ridge=5.0, dense_items=24, tail_neighbours=12))


class TestWithoutFacts(RecommenderConformance):
    """Interactions alone are enough."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Ease(EaseConfig(ridge=5.0, facts_weight=0.0))


def random_rows(n_users, n_items, n, seed=0):
    rng = np.random.default_rng(seed)
    item = np.minimum(rng.geometric(4 / n_items, n), n_items) - 1
    return Interactions.of(rng.integers(0, n_users, n), 100 + item, rng.integers(0, 10**6, n))


def naive_weights(model, rows, ridge, popularity_ridge):
    users = np.unique(rows.user_ids)
    X = np.zeros((len(users), len(model.items)))
    X[np.searchsorted(users, rows.user_ids), model.items.index(rows.item_ids)] = 1.0
    G = X.T @ X
    P = np.linalg.inv(G + ridge * np.eye(len(G)) + popularity_ridge * np.diag(np.diag(G)))
    B = -P / np.diag(P)
    np.fill_diagonal(B, 0.0)
    return B


def weights_of(model):
    """B, row by row: the scores of histories of one item each."""
    return model.score(Histories.of_items(*[[item] for item in model.items.ids.tolist()]))


@pytest.mark.parametrize(("n_users", "n_items"), [(200, 40), (30, 120)], ids=["item space", "user space"])
@pytest.mark.parametrize("popularity_ridge", [0.0, 0.7])
def test_weights_equal_the_naive_inverse_with_zero_diagonal(n_users, n_items, popularity_ridge):
    """Both solvers give the B of the paper's formula."""
    rows = random_rows(n_users, n_items, 1500)
    model = Ease(EaseConfig(ridge=3.0, popularity_ridge=popularity_ridge, **PLAIN)).fit(rows)
    assert ("factors" in model.state().arrays) == (n_users < n_items)
    B = weights_of(model)
    np.testing.assert_allclose(B, naive_weights(model, rows, 3.0, popularity_ridge), atol=2e-5)
    np.testing.assert_allclose(np.diag(B), 0.0, atol=1e-6)


def test_user_space_and_item_space_give_the_same_lists():
    """Woodbury's identity is exact: the same rows, solved either way, rank alike."""
    rows = random_rows(60, 90, 2500)
    config = EaseConfig(ridge=3.0, **PLAIN)
    wide = Ease(config).fit(rows)
    assert "factors" in wide.state().arrays
    X = training_matrix(rows, wide.items, config)
    ridge = (3.0 + 0.5 * np.asarray(X.sum(axis=0))).astype(np.float32)
    dense, _ = _solve_in_item_space(_gram(X), ridge)
    arrays = {k: v for k, v in wide.state().arrays.items() if k not in ("factors", "scale")}
    direct = Ease.from_state(ModelState({**arrays, "dense": dense}, wide.state().meta))
    np.testing.assert_array_equal(
        wide.recommend(rows.histories(), 10).item_ids, direct.recommend(rows.histories(), 10).item_ids
    )


@pytest.mark.parametrize("dense", [0, 7, 64, 150])
def test_gram_matrix_is_the_same_however_much_of_it_is_dense(dense, monkeypatch):
    rng = np.random.default_rng(0)
    X = CSR(((rng.random((90, 150)) < 0.2) * rng.random((90, 150))).astype(np.float32))
    monkeypatch.setattr(ease, "_dense_columns", lambda X: dense)
    monkeypatch.setattr(ease, "BLOCK", 32)
    expected = (X.T @ X).toarray()
    np.testing.assert_allclose(np.triu(_gram(X)), np.triu(expected), rtol=1e-5)


def test_head_and_tail_with_all_neighbours_regress_each_tail_item_on_the_head():
    """With every head item as neighbour, a tail column is the exact ridge regression on the head."""
    rows = random_rows(300, 40, 3000)
    n_dense = 30
    config = EaseConfig(
        ridge=3.0, popularity_ridge=0.0, dense_items=n_dense, tail_neighbours=n_dense, **PLAIN
    )
    model = Ease(config).fit(rows)
    users = np.unique(rows.user_ids)
    X = np.zeros((len(users), len(model.items)))
    X[np.searchsorted(users, rows.user_ids), model.items.index(rows.item_ids)] = 1.0
    head, tail = X[:, :n_dense], X[:, n_dense:]
    expected = np.linalg.solve(head.T @ head + 3.0 * np.eye(n_dense), head.T @ tail)
    B = weights_of(model)
    np.testing.assert_allclose(B[:n_dense, n_dense:], expected, atol=2e-5)
    np.testing.assert_array_equal(B[n_dense:, n_dense:], 0.0)
    np.testing.assert_allclose(np.diag(B), 0.0, atol=1e-6)


def test_tail_approximates_the_exact_solution():
    """Bounded memory costs little: scores of a few neighbours agree with those of the full inverse."""
    tastes = planted_tastes()
    exact = Ease(EaseConfig(ridge=5.0)).fit(tastes.interactions, tastes.catalog)
    bounded = Ease(EaseConfig(ridge=5.0, dense_items=30, tail_neighbours=20)).fit(
        tastes.interactions, tastes.catalog
    )
    histories = tastes.interactions.histories()
    agreement = np.corrcoef(exact.score(histories).ravel(), bounded.score(histories).ravel())[0, 1]
    assert agreement > 0.9


def test_new_items_of_the_loved_genre_rank_above_other_new_items():
    """Facts alone place an item that nobody has watched."""
    tastes = planted_tastes()
    table = tastes.catalog.table.select(["item_id", "title", "genres"])
    new = pa.table(
        {
            "item_id": pa.array([9001, 9002]),
            "title": ["New western", "New horror"],
            "genres": [["Western"], ["Horror"]],
        }
    )
    catalog = Catalog(pa.concat_tables([table, new.cast(table.schema)]))
    model = Ease(EaseConfig(ridge=5.0, new_items=True)).fit(tastes.interactions, catalog)
    scores = model.score(tastes.interactions.histories())
    western, horror = model.items.index([9001, 9002])
    assert (
        scores[tastes.genre_of_user == 0, western] > scores[tastes.genre_of_user == 0, horror]
    ).mean() > 0.9
    assert (
        scores[tastes.genre_of_user == 1, horror] > scores[tastes.genre_of_user == 1, western]
    ).mean() > 0.9


def test_more_weight_of_facts_draws_items_of_a_genre_together():
    """The weight from one item to another of its genre grows with the weight of facts."""
    tastes = planted_tastes()
    same = tastes.genre_of_item
    shares = []
    for weight in (0.0, 1.0, 10.0):
        model = Ease(EaseConfig(ridge=5.0, facts_weight=weight)).fit(tastes.interactions, tastes.catalog)
        B = weights_of(model)
        genre = np.array([same[item] for item in model.items.ids.tolist()])
        alike = genre[:, None] == genre
        shares.append(B[alike].mean() - B[~alike].mean())
    assert shares[0] < shares[1] < shares[2]


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become EASE."""
    with pytest.raises(ModelError, match="EASE"):
        Ease.from_state(ModelState({"item_ids": np.array([1]), "item_counts": np.array([1])}, {"config": {}}))
