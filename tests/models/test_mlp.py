"""The MLP names the film of an event, resumes bit for bit, and passes for a recommender."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Event, Histories, Interactions
from marquee.errors import DataError, ModelError
from marquee.models import Mlp, ModelState
from marquee.models.base import Progress
from marquee.models.checkpoints import Checkpoints
from marquee.models.mlp import MlpConfig
from marquee.simulate import Audience, AudienceConfig
from marquee.testing import RecommenderConformance, planted_tastes

SMALL = MlpConfig(hidden=(16, 16), max_epochs=6, patience=6)


class TestMlp(RecommenderConformance):
    def make(self) -> Mlp:
        return Mlp(SMALL)


class TestMlpOfAllInputs(RecommenderConformance):
    def make(self) -> Mlp:
        inputs = (
            "rating",
            "log_popularity",
            "watch_seconds",
            "hour_of_day",
            "runtime_minutes",
            "release_year",
        )
        return Mlp(replace(SMALL, inputs=inputs, hidden=(8,), max_epochs=2))


class Recording(Progress):
    """Keeps the metrics, and stops the training after some epochs."""

    def __init__(self, stop_after=None):
        self.epochs, self.stop_after, self.announced = [], stop_after, 0

    def total(self, steps, unit):
        assert unit == "epoch"
        self.announced = steps

    def step(self, metrics=None):
        self.epochs.append(metrics)
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def audience():
    """The default audience before 200 films of distinct popularity."""
    rng = np.random.default_rng(0)
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(1, 201),
                "title": [f"Film {item}" for item in range(1, 201)],
                "runtime_minutes": rng.integers(80, 180, 200),
                "genres": [[("Drama", "Comedy", "Action", "Horror")[item % 4]] for item in range(200)],
            }
        )
    )
    popularity = 20 * (1 + rng.pareto(1.5, 200))
    rows = Audience(catalog, popularity, AudienceConfig()).simulate().interactions
    return rows, catalog, dict(zip(range(1, 201), popularity.tolist(), strict=True))


@pytest.fixture(scope="module")
def trained(audience):
    rows, catalog, popularity = audience
    return Mlp().fit(rows, catalog, item_popularity=popularity)


def test_network_names_the_film_of_unseen_rows(trained):
    assert trained.report["test_rows"] > 250
    assert trained.report["test_accuracy"] >= 0.99
    assert trained.report["test_loss"] <= 0.05


def test_predict_answers_with_the_film_of_the_event(trained, audience):
    rows, _, popularity = audience
    asked = rows.take(slice(0, 300))
    answers = trained.predict(
        asked.ratings, [popularity[item] for item in asked.item_ids.tolist()], asked.watch_seconds
    )
    assert (trained.items.ids[answers.argmax(axis=1)] == asked.item_ids).mean() >= 0.99
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-5)
    assert len({tuple(np.argsort(-row)[1:11].tolist()) for row in answers}) >= 100


def test_one_event_alone_is_answered_bit_for_bit_as_in_a_batch(trained):
    rng = np.random.default_rng(0)
    ratings, popularity, seconds = rng.uniform(0, 10, 50), rng.uniform(20, 200, 50), rng.uniform(0, 9000, 50)
    together = trained.predict(ratings, popularity, seconds)
    for row in range(50):
        alone = trained.predict(float(ratings[row]), float(popularity[row]), float(seconds[row]))
        np.testing.assert_array_equal(alone[0], together[row])


def test_most_probable_items_are_those_of_predict_without_the_excluded(trained):
    rng = np.random.default_rng(0)
    events = rng.uniform(0, 10, 40), rng.uniform(20, 200, 40), rng.uniform(0, 9000, 40)
    probabilities = trained.predict(*events)
    rows, columns = np.repeat(np.arange(40), 5), np.argsort(-probabilities, axis=1)[:, :10:2].ravel()
    found, shares = trained.most_probable(*events, k=10, excluded=(rows, columns))
    left = probabilities.copy()
    left[rows, columns] = -np.inf
    np.testing.assert_allclose(shares, np.take_along_axis(left, found, axis=1), rtol=1e-5)
    np.testing.assert_allclose(shares, -np.sort(-left, axis=1)[:, :10], rtol=1e-5)
    assert not np.isin(found + 1000 * np.arange(40)[:, None], columns + 1000 * rows).any()


def test_most_probable_items_are_padded_where_few_are_left_and_alone_as_in_a_batch(trained):
    n_items = len(trained.items)
    rng = np.random.default_rng(0)
    ratings, popularity, seconds = rng.uniform(0, 10, 40), rng.uniform(20, 200, 40), rng.uniform(0, 9000, 40)
    all_but_two = np.zeros(n_items - 2, np.int64), np.arange(n_items - 2)
    together = trained.most_probable(ratings, popularity, seconds, k=n_items + 5, excluded=all_but_two)
    assert set(together[0][0, :2].tolist()) == {n_items - 2, n_items - 1}
    assert (together[0][0, 2:] == -1).all()
    assert np.isnan(together[1][0, 2:]).all()
    for row in (0, 1, 39):
        excluded = all_but_two if row == 0 else (all_but_two[0][:0], all_but_two[1][:0])
        event = ratings[row : row + 1], popularity[row : row + 1], seconds[row : row + 1]
        alone = trained.most_probable(*event, k=n_items + 5, excluded=excluded)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_array_equal(alone[1][0], together[1][row])


@pytest.mark.parametrize("extreme", [0.0, -1.0, 1e30, np.nan])
def test_inputs_beyond_the_training_range_are_answered(trained, extreme):
    assert np.isfinite(trained.predict(extreme, extreme, extreme)).all()


def test_missing_input_is_not_a_zero(trained):
    assert not np.array_equal(trained.predict(8.0, 50.0), trained.predict(8.0, 50.0, 0.0))


def test_unknown_input_is_refused(trained):
    with pytest.raises(ValueError, match="mood"):
        trained.predict(8.0, 50.0, 3000.0, mood=1.0)


def test_score_is_the_mean_answer_to_the_newest_positive_known_events(trained, audience):
    rows, _, popularity = audience
    user = rows.take(rows.user_ids == np.argmax(np.bincount(rows.user_ids)))
    hidden = Interactions.of([user.user_ids[0]], [user.item_ids[0]], [10**17], events=Event.HIDE)
    unknown = Interactions.of([user.user_ids[0]], [10**6], [10**17], events=Event.WATCH)
    columns = zip(*(_columns(part) for part in (user, hidden, unknown)), strict=True)
    history = Interactions(*(np.concatenate(column) for column in columns)).histories()
    newest = user.sorted().take(slice(-trained.config.history_events, None))
    answers = trained.predict(
        newest.ratings, [popularity[item] for item in newest.item_ids.tolist()], newest.watch_seconds
    )
    np.testing.assert_allclose(trained.score(history)[0], answers.mean(axis=0), rtol=1e-4, atol=1e-7)


def test_empty_history_is_answered_by_frequency(trained):
    scores = trained.score(Histories.of_items([]))[0]
    np.testing.assert_allclose(scores, trained.item_counts / trained.item_counts.sum(), rtol=1e-6)


def test_scores_of_many_histories_do_not_depend_on_the_block(trained, audience, monkeypatch):
    histories = audience[0].histories()
    together = trained.score(histories)
    monkeypatch.setattr("marquee.models.mlp.SCORED_ELEMENTS", 1)
    np.testing.assert_array_equal(trained.score(histories.take(slice(0, 40))), together[:40])


def test_popularity_defaults_to_the_counts_of_the_fit_data():
    rows = planted_tastes().interactions
    model = Mlp(replace(SMALL, max_epochs=1)).fit(rows)
    positives = rows.positives().item_ids
    expected = np.log1p([(positives == item).sum() for item in model.items.ids])
    np.testing.assert_allclose(model.state().arrays["items.log_popularity"], expected)


def test_item_without_popularity_is_missing_not_zero():
    model = Mlp(replace(SMALL, max_epochs=1)).fit(planted_tastes().interactions, item_popularity={10: 5.0})
    facts = dict(zip(model.items.ids.tolist(), model.state().arrays["items.log_popularity"], strict=True))
    assert facts[10] == np.log1p(5.0)
    assert np.isnan(facts[13])


def test_rows_whose_film_is_not_in_training_are_counted_and_left_out():
    n = 100
    rows = Interactions.of(np.arange(n), np.arange(n), np.arange(n), ratings=np.full(n, 5.0))
    model = Mlp(replace(SMALL, max_epochs=1)).fit(rows)
    assert len(model.items) == 80
    assert model.report["left_out_rows"] == 20
    assert (model.report["validation_rows"], model.report["test_rows"]) == (0, 0)
    assert "test_loss" not in model.report


def test_hidden_items_are_not_learned():
    rows = Interactions.of([1, 2], [7, 8], [1, 2], events=[Event.WATCH, Event.HIDE])
    assert Mlp(SMALL).fit(rows).items.ids.tolist() == [7]


def test_nothing_to_learn_from_is_an_error_that_says_so():
    with pytest.raises(DataError, match="no interactions"):
        Mlp().fit(Interactions.of([], [], []))


def test_each_epoch_reports_loss_and_accuracy_of_the_three_parts():
    seen = Recording()
    model = Mlp(SMALL).fit(planted_tastes().interactions, progress=seen)
    wanted = {f"{part}_{what}" for part in ("train", "validation", "test") for what in ("loss", "accuracy")}
    assert all(set(metrics) == wanted for metrics in seen.epochs)
    assert seen.epochs == model.epochs
    assert len(seen.epochs) <= seen.announced == 6
    assert model.report["validation_loss"] <= min(m["validation_loss"] for m in seen.epochs) + 0.001


def test_training_stops_when_validation_gets_no_better():
    config = replace(SMALL, max_epochs=500, patience=2)
    report = Mlp(config).fit(planted_tastes().interactions).report
    assert report["epochs"] == report["best_epoch"] + 2 < 500


def test_large_data_takes_larger_steps_and_fewer_epochs():
    made = Mlp()._schedule()
    assert (made.rows_of_step(2_300), made.epochs(2_300)) == (32, 60)
    assert (made.rows_of_step(80_000), made.epochs(80_000)) == (256, 3)
    assert (made.rows_of_step(5), made.epochs(10**9)) == (5, 1)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_interrupted_training_resumes_to_the_same_bits(tmp_path, stop_after):
    rows = planted_tastes().interactions
    undisturbed = Mlp(SMALL).fit(rows)
    with pytest.raises(KeyboardInterrupt):
        Mlp(SMALL).fit(rows, progress=Recording(stop_after), checkpoints=Checkpoints(tmp_path))
    seen = Recording()
    resumed = Mlp(SMALL).fit(rows, progress=seen, checkpoints=Checkpoints(tmp_path))
    _assert_same_state(resumed, undisturbed)
    assert seen.epochs == undisturbed.epochs
    assert len(list(tmp_path.iterdir())) <= 2


TRAIN_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from marquee.models.base import Progress
from marquee.models.checkpoints import Checkpoints
from marquee.models.mlp import Mlp, MlpConfig
from marquee.testing import planted_tastes

class Killed(Progress):
    epochs = 0

    def step(self, metrics=None):
        self.epochs += 1
        if self.epochs == 3:
            os.kill(os.getpid(), signal.SIGKILL)

config = MlpConfig(hidden=(16, 16), max_epochs=6, patience=6)
Mlp(config).fit(planted_tastes().interactions, progress=Killed(), checkpoints=Checkpoints(Path(sys.argv[1])))
"""


def test_killed_training_resumes_to_the_same_bits(tmp_path):
    killed = subprocess.run([sys.executable, "-c", TRAIN_UNTIL_KILLED, str(tmp_path)], env=os.environ.copy())
    assert killed.returncode == -signal.SIGKILL
    rows = planted_tastes().interactions
    resumed = Mlp(SMALL).fit(rows, checkpoints=Checkpoints(tmp_path))
    _assert_same_state(resumed, Mlp(SMALL).fit(rows))


def test_checkpoint_of_other_data_or_config_is_not_resumed(tmp_path):
    rows = planted_tastes().interactions
    Mlp(SMALL).fit(rows, checkpoints=Checkpoints(tmp_path))
    for config, data in [(replace(SMALL, seed=1), rows), (SMALL, rows.take(slice(0, 500)))]:
        resumed = Mlp(config).fit(data, checkpoints=Checkpoints(tmp_path))
        _assert_same_state(resumed, Mlp(config).fit(data))


def test_another_seed_gives_another_model():
    rows = planted_tastes().interactions
    left, right = (Mlp(replace(SMALL, seed=seed)).fit(rows).state().arrays for seed in (0, 1))
    assert not np.array_equal(left["parameters"], right["parameters"])


def test_report_survives_the_state(trained):
    state = trained.state()
    meta = json.loads(json.dumps(state.meta))
    assert Mlp.from_state(ModelState(state.arrays, meta)).report == trained.report


@pytest.mark.parametrize("broken", ["parameters", "items.log_popularity", "knots.rating"])
def test_state_that_lacks_an_array_is_refused(trained, broken):
    state = trained.state()
    arrays = {name: array for name, array in state.arrays.items() if name != broken}
    with pytest.raises(ModelError, match=broken):
        Mlp.from_state(ModelState(arrays, state.meta))


def test_restored_arrays_are_not_copied(trained):
    state = trained.state()
    again = Mlp.from_state(state).state()
    assert np.shares_memory(again.arrays["parameters"], state.arrays["parameters"])


@pytest.mark.parametrize(
    "values",
    [
        {"inputs": ("mood",)},
        {"inputs": ()},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"hidden": ()},
        {"patience": 0},
    ],
)
def test_impossible_config_is_refused(values):
    with pytest.raises(ValueError, match=r"inputs|fraction|hidden|patience"):
        MlpConfig(**values)


def _columns(rows):
    return (rows.user_ids, rows.item_ids, rows.timestamps, rows.events, rows.ratings, rows.watch_seconds)


def _assert_same_state(left, right):
    assert left.state().meta == right.state().meta
    for name, array in right.state().arrays.items():
        np.testing.assert_array_equal(left.state().arrays[name], array, err_msg=name)
