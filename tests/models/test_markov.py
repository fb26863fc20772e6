"""The Markov chain counts what follows what."""

import numpy as np
import pytest

from marquee.data import Histories, Interactions
from marquee.errors import ModelError
from marquee.models import Markov, ModelState
from marquee.models.markov import MarkovConfig
from marquee.testing import RecommenderConformance

PLAIN = {
    "training_half_life_days": None,
    "history_half_life_events": None,
    "history_half_life_days": None,
    "rating_weight": 0.0,
}


class TestMarkov(RecommenderConformance):
    """The default."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Markov(MarkovConfig(smoothing=1.0))


def test_transitions_are_shares_of_what_followed():
    """Known answer: after 10 came 20 twice and 30 once; smoothing 1 adds one to the three."""
    rows = Interactions.of([1, 1, 2, 2, 3, 3], [10, 20, 10, 20, 10, 30], [1, 2, 1, 2, 1, 2])
    model = Markov(MarkovConfig(window=1, smoothing=1.0, **PLAIN)).fit(rows)
    after_10 = model.score(Histories.of_items([10]))[0]
    np.testing.assert_allclose(after_10[model.items.index([10, 20, 30])], [0.0, 0.5, 0.25])
    assert not model.score(Histories.of_items([20])).any()


def test_only_the_likeliest_followers_are_kept():
    """Of 20 (twice) and 30 (once) after 10 the first stays, with the share it had."""
    rows = Interactions.of([1, 1, 2, 2, 3, 3], [10, 20, 10, 20, 10, 30], [1, 2, 1, 2, 1, 2])
    model = Markov(MarkovConfig(window=1, smoothing=1.0, followers=1, **PLAIN)).fit(rows)
    after_10 = model.score(Histories.of_items([10]))[0]
    np.testing.assert_allclose(after_10[model.items.index([10, 20, 30])], [0.0, 0.5, 0.0])


def test_events_further_on_count_less():
    """With a half-life of one step, the second next counts half of the next."""
    rows = Interactions.of([1, 1, 1], [10, 20, 30], [1, 2, 3])
    config = MarkovConfig(window=5, step_half_life=1.0, smoothing=0.0, **PLAIN)
    after_10 = Markov(config).fit(rows).score(Histories.of_items([10]))[0]
    np.testing.assert_allclose(after_10, [0.0, 2 / 3, 1 / 3], rtol=1e-6)


def test_events_of_one_moment_do_not_follow_one_another():
    """Equal times carry no order."""
    rows = Interactions.of([1, 1, 1], [10, 20, 30], [1, 1, 2])
    model = Markov(MarkovConfig(smoothing=0.0, **PLAIN)).fit(rows)
    assert model.score(Histories.of_items([10]))[0, model.items.index([20])[0]] == 0.0
    assert model.score(Histories.of_items([10]))[0, model.items.index([30])[0]] > 0.0


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become a Markov chain."""
    with pytest.raises(ModelError, match="transitions"):
        Markov.from_state(ModelState({}, {"config": {}}))
