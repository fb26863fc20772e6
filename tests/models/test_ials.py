"""iALS minimises the loss that it says, and folds histories in exactly."""

import numpy as np
import pytest

from marquee.data import Interactions
from marquee.data.schema import CSR
from marquee.errors import ModelError
from marquee.models import Ials, ModelState
from marquee.models.ials import IalsConfig
from marquee.models.recency import history_matrix
from marquee.testing import RecommenderConformance, planted_tastes

CONFIG = IalsConfig(factors=8, iterations=8, regularization=0.05)


class TestIals(RecommenderConformance):
    """Small factors for small data."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Ials(CONFIG)


class TestUnscaled(RecommenderConformance):
    """Regularisation that does not grow with frequency."""

    personal = True
    minimum_share = 0.6
    tolerance = 1e-4

    def make(self):
        return Ials(IalsConfig(factors=8, iterations=8, regularization=0.5, frequency_scaling=0.0))


def naive_row(V, weights, config):
    """The minimiser of the loss in one user, with loops over items."""
    d = V.shape[1]
    A = np.zeros((d, d))
    b = np.zeros(d)
    for i, v in enumerate(V.astype(np.float64)):
        A += (config.unobserved_weight + weights[i]) * np.outer(v, v)
        b += weights[i] * v
    frequency = weights.sum() + config.unobserved_weight * len(V)
    A += config.regularization * frequency**config.frequency_scaling * np.eye(d)
    return np.linalg.solve(A, b)


@pytest.mark.parametrize("scaling", [0.0, 0.5, 1.0])
def test_fold_in_equals_a_naive_loop(scaling):
    """Batched and padded, each history still gets its own minimiser."""
    tastes = planted_tastes()
    config = IalsConfig(factors=8, iterations=3, frequency_scaling=scaling)
    model = Ials(config).fit(tastes.interactions)
    H = history_matrix(tastes.interactions.histories(), model.items, config)
    V = model.state().arrays["factors"]
    found = model.fold_in(H)
    for row, weights in enumerate(H.toarray()[:20].astype(np.float64)):
        np.testing.assert_allclose(found[row], naive_row(V, weights, config), rtol=2e-3, atol=2e-4)


def test_lists_equal_those_of_all_scores():
    rows = planted_tastes().interactions
    model = Ials(IalsConfig(factors=8, iterations=3)).fit(rows)
    histories = rows.histories()
    scores = model.score(histories)
    scores[histories.rows, model.items.index(histories.item_ids)] = -np.inf
    expected = model.items.ids[np.argsort(-scores, axis=1, kind="stable")[:, :5]]
    assert (model.recommend(histories, 5).item_ids == expected).mean() > 0.99


def test_many_gradient_steps_reach_the_exact_half_step():
    """Conjugate gradient in d steps is the direct solution."""
    rng = np.random.default_rng(0)
    n_users, n_items = 40, 25
    rows = Interactions.of(
        rng.integers(0, n_users, 500), rng.integers(0, n_items, 500), rng.integers(0, 10**6, 500)
    )
    config = IalsConfig(
        factors=6, iterations=30, cg_steps=12, training_half_life_days=None, rating_weight=0.0
    )
    model = Ials(config).fit(rows)
    V = model.state().arrays["factors"]
    users = np.unique(rows.user_ids)
    X = np.zeros((len(users), len(model.items)))
    X[np.searchsorted(users, rows.user_ids), model.items.index(rows.item_ids)] = 1.0
    U = np.array([naive_row(V, weights, config) for weights in X])
    # At a fixed point the items are the minimisers for those users in turn.
    again = np.array([naive_row(U, weights, config) for weights in X.T])
    np.testing.assert_allclose(again @ U.T, V @ U.T, atol=0.02)


def test_more_iterations_lower_the_loss():
    """Every alternation goes down."""
    tastes = planted_tastes()
    losses = [loss_of(Ials(IalsConfig(factors=8, iterations=n)), tastes.interactions) for n in (1, 3, 10)]
    assert losses[0] > losses[1] > losses[2]


def loss_of(model, interactions):
    rows = interactions.positives()
    model.fit(rows)
    users = np.unique(rows.user_ids)
    config = model.config
    X = CSR(
        (
            np.ones(len(rows), np.float32),
            (np.searchsorted(users, rows.user_ids), model.items.index(rows.item_ids)),
        ),
        shape=(len(users), len(model.items)),
    )
    U, V = model.fold_in(X), model.state().arrays["factors"]
    dense, predicted = X.toarray(), U @ V.T
    user_frequency = dense.sum(axis=1) + config.unobserved_weight * dense.shape[1]
    item_frequency = dense.sum(axis=0) + config.unobserved_weight * dense.shape[0]
    return float(
        (dense * (predicted - 1) ** 2).sum()
        + config.unobserved_weight * (predicted**2).sum()
        + config.regularization * (user_frequency @ (U**2).sum(axis=1) + item_frequency @ (V**2).sum(axis=1))
    )


def test_impossible_sizes_are_refused():
    """No factors, no model."""
    with pytest.raises(ValueError, match="at least 1"):
        IalsConfig(factors=0)


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become iALS."""
    with pytest.raises(ModelError, match="factors"):
        Ials.from_state(ModelState({}, {"config": {}}))
