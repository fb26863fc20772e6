"""
The suite that every recommender passes.

Subclass it in a test module and say how the model is made; pytest collects the rest:

    class TestEase(RecommenderConformance):
        personal = True

        def make(self):
            return Ease()
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, TypeVar

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import Event
from marquee.data.vocabulary import Vocabulary
from marquee.errors import NotFittedError
from marquee.models.base import ModelState, Progress, Recommender
from marquee.testing.planted import PlantedTastes, planted_tastes

__all__ = ["RecommenderConformance"]

E = TypeVar("E", bound=Exception)

UNKNOWN_ITEM, UNKNOWN_USER = 999_999, 888_888


class RecommenderConformance:
    """
    Properties of a recommender that evaluation and serving rely on.

    Attributes:
        personal: whether lists depend on the history; such a model must recover planted tastes.
        minimum_share: the least mean share of the loved genre in the first 5 of a personal model;
            chance is 0.25.
        tolerance: the greatest relative difference of scores between a history alone and in a batch
            (matrix products of other shapes may round differently).
    """

    personal: ClassVar[bool] = False
    minimum_share: ClassVar[float] = 0.75
    tolerance: ClassVar[float] = 1e-5

    def make(self) -> Recommender:
        """A new, unfitted model; each call gives the same."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def fit(self, tastes: PlantedTastes) -> Recommender:
        """A new model fitted on tastes; override where `fit` wants more than rows and catalogue."""
        return self.make().fit(tastes.interactions, tastes.catalog)

    def fitted(self) -> Recommender:
        """A model fitted on `planted_tastes()`, shared by the tests of a class that leave it as it is."""
        if "_shared" not in type(self).__dict__:
            type(self)._shared = self.fit(planted_tastes())  # type: ignore[attr-defined]
        shared: Recommender = type(self)._shared  # type: ignore[attr-defined]
        return shared

    def test_scores_are_finite_float32_with_one_column_per_item(self) -> None:
        """Whoever ranks the scores may rely on their shape, type and finiteness."""
        model, histories = self.fitted(), _histories()
        scores = model.score(histories)
        assert scores.shape == (len(histories), len(model.items))
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_vocabulary_is_ordered_by_descending_count(self) -> None:
        """Ties of scores are broken by the lower index, which must mean: the more frequent item."""
        model = self.fitted()
        assert len(model.item_counts) == len(model.items)
        assert (np.diff(model.item_counts) <= 0).all()
        assert set(model.items.ids.tolist()) <= set(planted_tastes().interactions.item_ids.tolist())

    def test_no_histories_give_no_scores(self) -> None:
        """A batch of none is a batch."""
        model = self.fitted()
        none = _histories().take(slice(0, 0))
        assert model.score(none).shape == (0, len(model.items))
        assert len(model.recommend(none, 3)) == 0

    def test_restored_state_scores_the_same_float_for_float(self) -> None:
        """State goes through real safetensors bytes and JSON, and comes back as read-only arrays."""
        model, histories = self.fitted(), _histories()
        restored = type(model).from_state(_through_bytes(model.state()))
        assert restored.items == model.items
        assert restored.config == model.config
        np.testing.assert_array_equal(restored.item_counts, model.item_counts)
        np.testing.assert_array_equal(restored.score(histories), model.score(histories))
        np.testing.assert_array_equal(
            restored.recommend(histories, 5).item_ids, model.recommend(histories, 5).item_ids
        )

    def test_state_of_a_restored_model_is_the_same_state(self) -> None:
        """A bundle of a loaded bundle is the same bundle."""
        state = self.fitted().state()
        again = type(self.fitted()).from_state(_through_bytes(state)).state()
        assert json.loads(json.dumps(again.meta)) == json.loads(json.dumps(state.meta))
        assert again.arrays.keys() == state.arrays.keys()
        for name, array in state.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], array, err_msg=name)

    def test_row_depends_on_its_own_history_only(self) -> None:
        """A history alone, in a batch and in a shuffled batch gets the same scores."""
        model, histories = self.fitted(), _histories()
        scores = model.score(histories)
        order = np.random.default_rng(1).permutation(len(histories))
        self._assert_close(model.score(histories.take(order)), scores[order])
        for row in range(0, len(histories), 9):
            self._assert_close(model.score(histories.take(slice(row, row + 1)))[0], scores[row])

    def test_scoring_twice_gives_the_same(self) -> None:
        """Answers have no side effects."""
        model, histories = self.fitted(), _histories()
        np.testing.assert_array_equal(model.score(histories).copy(), model.score(histories))

    def test_recommend_returns_nothing_of_the_history(self) -> None:
        """Seen, rated and hidden items are left out of the list."""
        model, histories = self.fitted(), _histories()
        ranked = model.recommend(histories, 12)
        for row, items in enumerate(ranked.item_ids):
            start, stop = histories.indptr[row : row + 2]
            assert not set(items.tolist()) & set(histories.item_ids[start:stop].tolist())
            assert len(set(items[items >= 0].tolist())) == (items >= 0).sum()

    def test_lists_are_score_order_with_ties_to_the_lower_index(self) -> None:
        """`recommend` ranks what `score` says and nothing else."""
        model, histories = self.fitted(), _histories()
        scores = np.array(model.score(histories))
        ranked = model.recommend(histories, 7, exclude_history=False)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
        np.testing.assert_array_equal(ranked.item_ids, model.items.ids[order])
        np.testing.assert_array_equal(ranked.scores, np.take_along_axis(scores, order, axis=1))

    def test_k_beyond_the_catalogue_is_padded(self) -> None:
        """Lists end where items end."""
        model = self.fitted()
        n = len(model.items)
        ranked = model.recommend([int(model.items.ids[0])], n + 5)
        assert ranked.item_ids.shape == (1, n + 5)
        assert (ranked.item_ids[0, : n - 1] >= 0).all()
        assert (ranked.item_ids[0, n - 1 :] == -1).all()
        assert np.isnan(ranked.scores[0, n - 1 :]).all()

    def test_unknown_user_is_answered(self) -> None:
        """An empty history is cold start, not an error."""
        model = self.fitted()
        users = [UNKNOWN_USER, UNKNOWN_USER + 1]
        unknown = Histories.gather(planted_tastes().interactions, users, 10**15)
        assert np.isfinite(model.score(unknown)).all()
        assert (model.recommend(unknown, 5).item_ids >= 0).all()
        self._assert_close(model.score(unknown)[0], model.score(unknown)[1])

    def test_history_of_hidden_items_only_is_answered(self) -> None:
        """Someone who has only said no still gets a list."""
        model = self.fitted()
        hidden = Interactions.of([1, 1], model.items.ids[:2], [1, 2], events=Event.HIDE).histories()
        ranked = model.recommend(hidden, 5)
        assert (ranked.item_ids >= 0).all()
        assert not set(ranked.item_ids[0].tolist()) & set(model.items.ids[:2].tolist())

    def test_unknown_items_in_a_history_are_ignored(self) -> None:
        """What the model never saw changes no score."""
        model, rows = self.fitted(), planted_tastes().interactions
        rows = rows.take(rows.user_ids <= 6)
        strange = Interactions.of(
            rows.user_ids, UNKNOWN_ITEM + np.arange(len(rows)), rows.timestamps, events=Event.WATCH
        )
        both = Interactions(
            *(np.concatenate([getattr(rows, f.name), getattr(strange, f.name)]) for f in fields(rows))
        )
        self._assert_close(model.score(both.histories()), model.score(rows.histories()))

    def test_order_of_rows_does_not_matter(self) -> None:
        """Only time orders events: neither the order of a table nor that of equal times tells anything."""
        tastes = planted_tastes()
        shuffled = tastes.interactions.take(np.random.default_rng(2).permutation(len(tastes.interactions)))
        self._assert_close(self.fitted().score(shuffled.histories()), self.fitted().score(_histories()))
        model = self.fit(
            PlantedTastes(
                shuffled, tastes.catalog, tastes.genre_of_item, tastes.user_ids, tastes.genre_of_user
            )
        )
        assert model.items == self.fitted().items
        self._assert_close(model.score(_histories()), self.fitted().score(_histories()))

    def test_same_seed_gives_the_same_model(self) -> None:
        """Two fits on the same data agree bit for bit."""
        again = self.fit(planted_tastes()).state()
        state = self.fitted().state()
        assert again.meta == state.meta
        for name, array in state.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], array, err_msg=name)

    def test_renamed_items_give_the_same_lists(self) -> None:
        """Ids are names: nothing is learned from their value."""
        tastes = planted_tastes()

        def rename(ids: Any) -> Any:
            return 7 * ids + 1000

        renamed = tastes.renamed(rename)
        model = self.fit(renamed)
        assert model.items == Vocabulary(rename(self.fitted().items.ids))
        self._assert_close(model.score(renamed.interactions.histories()), self.fitted().score(_histories()))

    def test_fit_leaves_its_input_as_it_is(self) -> None:
        """The caller's arrays may be shared or read-only."""
        tastes = planted_tastes()
        rows = tastes.interactions.take(np.arange(len(tastes.interactions)))
        for field in fields(rows):
            getattr(rows, field.name).flags.writeable = False
        before = rows.digest()
        self.fit(
            PlantedTastes(rows, tastes.catalog, tastes.genre_of_item, tastes.user_ids, tastes.genre_of_user)
        )
        assert rows.digest() == before

    def test_one_interaction_is_enough_to_fit(self) -> None:
        """A new installation has one user with one film."""
        tastes = planted_tastes()
        one = PlantedTastes(
            tastes.interactions.take(slice(0, 1)),
            tastes.catalog,
            tastes.genre_of_item,
            tastes.user_ids,
            tastes.genre_of_user,
        )
        model = self.fit(one)
        assert len(model.items) == 1
        assert np.isfinite(model.score(_histories())).all()

    def test_use_before_fit_raises_not_fitted(self) -> None:
        """The error names the model and what to do."""
        model, histories = self.make(), _histories()
        uses: list[Callable[[], Any]] = [
            lambda: model.score(histories),
            lambda: model.recommend(histories),
            lambda: model.state(),
            lambda: model.items,
            lambda: model.item_counts,
        ]
        for use in uses:
            error = _raised(NotFittedError, use)
            assert model.name in str(error)
            assert error.fix

    def test_k_below_one_is_refused(self) -> None:
        """A list of no items is a mistake of the caller."""
        assert "k must be" in str(_raised(ValueError, lambda: self.fitted().recommend([1], 0)))

    def test_config_round_trips_through_json(self) -> None:
        """What is logged with a run makes the same model again, and a misspelt field is refused."""
        model = self.make()
        values = json.loads(json.dumps(model.config.to_dict()))
        assert type(model).Config.from_dict(values) == model.config
        assert all(field.metadata.get("doc") for field in fields(model.config)), "a field lacks its doc"
        misspelt = {**values, "no_such_field": 1}
        error = _raised(ValueError, lambda: type(model).Config.from_dict(misspelt))
        assert "no_such_field" in str(error)

    def test_progress_announces_at_least_the_steps_it_reports(self) -> None:
        """A bar never runs past its end."""
        tastes, seen = planted_tastes(), _CountingProgress()
        self.make().fit(tastes.interactions, tastes.catalog, progress=seen)
        assert seen.steps <= seen.announced

    def test_fans_of_a_genre_get_it(self) -> None:
        """A personal model recovers planted tastes; others get by with an answer."""
        tastes = planted_tastes()
        ranked = self.fitted().recommend(_histories(), 5)
        genres = np.vectorize(tastes.genre_of_item.__getitem__)(ranked.item_ids)
        share = float((genres == tastes.genre_of_user[:, None]).mean())
        if self.personal:
            assert share >= self.minimum_share, f"only {share:.2f} of the first 5 are of the loved genre"

    def _assert_close(self, actual: Any, desired: Any) -> None:
        scale = float(np.abs(desired).max(initial=0.0))
        np.testing.assert_allclose(actual, desired, rtol=self.tolerance, atol=self.tolerance * scale)


class _CountingProgress(Progress):
    def __init__(self) -> None:
        self.announced = 0
        self.steps = 0

    def total(self, steps: int, unit: str) -> None:
        self.announced += steps

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        self.steps += 1


@cache
def _histories() -> Histories:
    return planted_tastes().interactions.histories()


def _raised(kind: type[E], call: Callable[[], Any]) -> E:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def _through_bytes(state: ModelState) -> ModelState:
    arrays = load_arrays(save_arrays({k: np.ascontiguousarray(v) for k, v in state.arrays.items()}))
    for array in arrays.values():
        array.flags.writeable = False
    return ModelState(arrays, json.loads(json.dumps(state.meta)))
