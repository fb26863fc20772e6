"""The next-item MLP learns tastes from what came next, resumes bit for bit, and sees no future."""

import json
from dataclasses import replace

import numpy as np
import pytest

from marquee.data import Event, Histories, Interactions
from marquee.errors import DataError, ModelError
from marquee.models import MlpNext, ModelState
from marquee.models._examples import IMPOSSIBLE, popularity_through_time
from marquee.models._profile import Profiles
from marquee.models.base import Progress
from marquee.models.checkpoints import Checkpoints
from marquee.models.mlp_next import MlpNextConfig
from marquee.models.recency import RecencyConfig
from marquee.testing import RecommenderConformance, planted_tastes

SMALL = MlpNextConfig(hidden=(16, 16), ridge=5.0, frequencies=4, max_epochs=3)
DAY = 86_400_000_000


class TestMlpNext(RecommenderConformance):
    personal = True
    minimum_share = 0.6

    def make(self):
        return MlpNext(SMALL)


class TestFewClasses(RecommenderConformance):
    """Most items share one output."""

    def make(self):
        return MlpNext(replace(SMALL, classes=20, max_epochs=1))


class Stopping(Progress):
    def __init__(self, after=None):
        self.after, self.steps = after, 0

    def step(self, metrics=None):
        self.steps += 1
        if self.steps == self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def fitted():
    tastes = planted_tastes()
    return MlpNext(SMALL).fit(tastes.interactions, tastes.catalog)


@pytest.fixture
def task():
    tastes = planted_tastes()
    model = MlpNext(SMALL)
    rows = tastes.interactions.positives().sorted()
    model._set_items(rows)
    return model._examples(rows, tastes.catalog)


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_interrupted_training_resumes_to_the_same_bits(tmp_path, fitted, stop_after):
    """In the search for the number of epochs, and in the final training."""
    tastes = planted_tastes()
    with pytest.raises(KeyboardInterrupt):
        MlpNext(SMALL).fit(
            tastes.interactions,
            tastes.catalog,
            progress=Stopping(stop_after),
            checkpoints=Checkpoints(tmp_path),
        )
    resumed = MlpNext(SMALL).fit(tastes.interactions, tastes.catalog, checkpoints=Checkpoints(tmp_path))
    assert resumed.state().meta == fitted.state().meta
    for name, array in fitted.state().arrays.items():
        np.testing.assert_array_equal(resumed.state().arrays[name], array, err_msg=name)


def test_another_seed_gives_another_model(fitted):
    tastes = planted_tastes()
    other = MlpNext(replace(SMALL, seed=1)).fit(tastes.interactions, tastes.catalog)
    assert not np.array_equal(other.state().arrays["parameters"], fitted.state().arrays["parameters"])


def test_scores_are_logarithms_of_probabilities(fitted):
    histories = planted_tastes().interactions.histories()
    np.testing.assert_allclose(np.exp(fitted.score(histories)).sum(axis=1), 1.0, rtol=1e-4)
    few = MlpNext(replace(SMALL, classes=20, max_epochs=1)).fit(planted_tastes().interactions)
    np.testing.assert_allclose(np.exp(few.score(histories)).sum(axis=1), 1.0, rtol=1e-4)


def test_empty_history_is_answered_by_time_decayed_popularity():
    rows = Interactions.of([1, 2, 3, 4, 5], [7, 7, 7, 8, 8], [0, 0, 0, 9000 * DAY, 9000 * DAY])
    model = MlpNext(SMALL).fit(rows)
    assert model.items.ids.tolist() == [7, 8]
    scores = model.score(Histories.of_items([]))[0]
    assert scores[1] > scores[0]


def test_users_of_one_event_each_leave_popularity():
    rows = Interactions.of([1, 2, 3], [7, 7, 8], [1, 2, 3], events=Event.WATCH)
    model = MlpNext(SMALL).fit(rows)
    assert model.report["examples"] == 0
    again = MlpNext.from_state(model.state())
    np.testing.assert_array_equal(again.score(rows.histories()), model.score(rows.histories()))


def test_popularity_of_a_moment_is_that_of_the_rows_before_it():
    rows = planted_tastes().interactions.positives().sorted()
    _, index = np.unique(rows.item_ids, return_inverse=True)
    moments, shares = popularity_through_time(rows, index, 10.0, 0.03)
    for moment, share in zip(moments.tolist(), shares, strict=True):
        before = rows.timestamps < moment
        age = (moment - rows.timestamps[before]) / DAY
        counted = np.bincount(index[before], np.exp2(-age / 10.0) + 0.03, minlength=shares.shape[1])
        np.testing.assert_allclose(share, counted / max(counted.sum(), 1e-300), atol=1e-12)


def test_examples_hold_nothing_of_the_future(task):
    """Offsets are of the past, answers are later items that were there, and none is of the history."""
    examples = task.draw()
    assert len(examples) > 100
    np.testing.assert_allclose(examples.labels.sum(axis=1), 1.0, rtol=1e-5)
    assert examples.labels.multiply(examples.excluded).nnz == 0
    which = np.repeat(np.arange(len(examples)), np.diff(examples.labels.indptr))
    assert (task.offsets[examples.offset_rows[which], examples.labels.indices] > IMPOSSIBLE).all()


def test_rows_after_a_moment_change_nothing_of_an_example(task):
    rows = task.rows
    moment = int(np.median(rows.timestamps))
    users = np.unique(rows.before(moment).user_ids)
    task.profiles.scale_by(Histories.gather(rows, users, moment))
    inputs = task.profiles.encode(Histories.gather(rows, users, moment))
    again = task.profiles.encode(Histories.gather(rows.before(moment), users, moment))
    np.testing.assert_array_equal(inputs, again)


def test_own_rows_are_taken_out_as_if_the_factors_had_been_made_without_them():
    """Known answer: the dual ridge regression on all users but one."""
    tastes = planted_tastes()
    rows = tastes.interactions.positives()
    model = MlpNext(SMALL)
    model._set_items(rows)
    plain = RecencyConfig(
        training_half_life_days=None,
        history_half_life_events=None,
        history_half_life_days=None,
        rating_weight=0.0,
    )
    n = len(model.items)
    profiles = Profiles.learn(
        rows,
        model.items,
        None,
        np.ones(n),
        long=plain,
        recent=plain,
        n_factors=999,
        seen_factors=4,
        ridge=2.0,
    )
    histories = rows.histories()
    profiles.scale_by(histories)
    points = profiles.encode(histories, own_rows=True)[:, -profiles.n_factors :]
    factors = profiles.arrays["factors"]
    X = histories.matrix(model.items).toarray().astype(np.float64)
    for user in (0, 17):
        others = np.delete(X, user, axis=0)
        history = X[user] / np.sqrt(np.linalg.norm(X[user]))
        weights = np.linalg.solve(others @ others.T + 2.0 * np.eye(len(others)), others @ history)
        np.testing.assert_allclose(points[user] @ factors.T, weights @ others, atol=1e-4)


def test_nothing_to_learn_from_is_an_error_that_says_so():
    with pytest.raises(DataError, match="no interactions"):
        MlpNext().fit(Interactions.of([], [], []))


def test_report_survives_the_state(fitted):
    state = fitted.state()
    meta = json.loads(json.dumps(state.meta))
    assert MlpNext.from_state(ModelState(state.arrays, meta)).report == fitted.report


def test_state_that_lacks_an_array_is_refused(fitted):
    state = fitted.state()
    for broken in ("log_popularity", "running", "profiles.factors"):
        arrays = {name: array for name, array in state.arrays.items() if name != broken}
        with pytest.raises(ModelError, match=broken.removeprefix("profiles.")):
            MlpNext.from_state(ModelState(arrays, state.meta))


@pytest.mark.parametrize("values", [{"hidden": ()}, {"kept_events": 0.0}, {"patience": 0}])
def test_impossible_config_is_refused(values):
    with pytest.raises(ValueError, match=r"hidden|kept_events|patience"):
        MlpNextConfig(**values)
