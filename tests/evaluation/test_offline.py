from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marquee.data.dataset import Catalog, Interactions
from marquee.data.ranked import RankedItems
from marquee.data.split import split
from marquee.errors import DataError
from marquee.evaluation.offline import evaluate
from marquee.evaluation.results import Evaluation
from marquee.models.base import Progress, Recommender, silent
from marquee.models.popularity import Popularity, PopularityConfig

fits: list[str] = []


class Counted(Popularity):
    """Popularity that writes down each fit."""

    name = "counted"

    def fit(self, interactions, catalog=None, **kwargs):
        fits.append("fit")
        return super().fit(interactions, catalog, **kwargs)


class Steps(Progress):
    def __init__(self) -> None:
        self.n, self.steps = 0, []

    def total(self, steps: int, unit: str) -> None:
        self.n = steps

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        self.steps.append(metrics)


def same(one: Evaluation, other: Evaluation) -> bool:
    return all(
        np.array_equal(values, other.results[name].metrics[part][metric], equal_nan=True)
        for name, result in one.results.items()
        for part, metrics in result.metrics.items()
        for metric, values in metrics.items()
    )


def test_metrics_lie_between_zero_and_one(interactions, catalog):
    found = evaluate({"popularity": Popularity}, interactions, catalog)
    for result in found.results.values():
        for metrics in result.metrics.values():
            for values in metrics.values():
                told = values[np.isfinite(values)]
                assert ((told >= 0) & (told <= 1)).all()
        for shares in result.coverage.values():
            assert ((shares >= 0) & (shares <= 1)).all()


def test_oracle_is_above_and_random_below(interactions):
    found = evaluate({"popularity": Popularity}, interactions)
    oracle, popularity, random = (
        found.results[name].mean("ndcg_at_10") for name in ("oracle", "popularity", "random")
    )
    assert oracle > popularity > random
    assert found.results["oracle"].kind == "ceiling"
    assert [model.name for model in found.models()] == ["popularity"]


def test_test_stage_uses_only_test_windows(interactions):
    tested = evaluate({"popularity": Popularity}, interactions)
    tuned = evaluate({"popularity": Popularity}, interactions, stage="tuning")
    assert [window.name for window in tested.windows] == [f"rolling-{k}" for k in range(4, 10)]
    assert [window.name for window in tuned.windows] == [f"rolling-{k}" for k in range(4)]


def test_slices_partition_the_queries(interactions, catalog):
    result = evaluate({"popularity": Popularity}, interactions, catalog).results["popularity"]
    parts = ("history_under_20", "history_20_to_99", "history_100_up")
    assert sum(result.n_queries(part) for part in parts) == result.n_queries()
    assert result.n_queries("last_1") == result.n_queries()
    assert result.n_queries("tail_items") <= result.n_queries()
    assert not result.judged("history_100_up")


def test_min_rating_keeps_the_lists_and_restricts_the_ground_truth(interactions):
    every = evaluate({"popularity": Popularity}, interactions).results["popularity"]
    liked = evaluate({"popularity": Popularity}, interactions, min_rating=8.0).results["popularity"]
    assert liked.n_queries() < every.n_queries()
    assert liked.coverage["all"].tolist() == every.coverage["all"].tolist()


def test_second_run_computes_nothing_and_finds_the_same(interactions, catalog, tmp_path):
    fits.clear()
    first = evaluate({"counted": Counted}, interactions, catalog, cache=tmp_path)
    assert len(fits) == 6
    second = evaluate({"counted": Counted}, interactions, catalog, cache=tmp_path)
    assert len(fits) == 6
    assert same(first, second)
    assert first.results["counted"].fit_seconds == second.results["counted"].fit_seconds


def test_added_model_alone_is_computed(interactions, tmp_path):
    fits.clear()
    recent = PopularityConfig(half_life_days=30)
    evaluate({"counted": Counted}, interactions, cache=tmp_path)
    evaluate({"counted": Counted, "recent": lambda: Counted(recent)}, interactions, cache=tmp_path)
    assert len(fits) == 12


def test_changed_data_or_broken_entry_is_computed_anew(interactions, make, tmp_path):
    fits.clear()
    evaluate({"counted": Counted}, interactions, cache=tmp_path)
    evaluate({"counted": Counted}, make(1), cache=tmp_path)
    assert len(fits) == 12
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK broken")
    evaluate({"counted": Counted}, interactions, cache=tmp_path)
    assert len(fits) == 18


def test_order_of_the_rows_changes_nothing(interactions):
    shuffled = interactions.take(np.random.default_rng(5).permutation(len(interactions)))
    models = {"popularity": Popularity}
    assert same(evaluate(models, interactions), evaluate(models, shuffled))


def test_window_model_sees_only_queries_of_earlier_windows(interactions):
    given = []

    @dataclass
    class Learner:
        base: Recommender

        def fit_window(self, window, earlier, catalog=None, **_):
            given.append((window, earlier))
            self.base.fit(window.fit)
            return self

        def recommend(self, histories, k=10):
            return self.base.recommend(histories, k)

    found = evaluate({"learner": lambda: Learner(Popularity()), "popularity": Popularity}, interactions)

    assert [window.index for window, _ in given] == [*range(4, 10)]
    for window, earlier in given:
        assert len(window) == 0
        assert [past.index for past in earlier] == [*range(window.index)]
        latest = max(past.truth.timestamps.max() for past in earlier)
        assert latest <= window.fit.timestamps.max()
    assert found.difference("learner", "popularity").mean == 0.0


def test_known_best_ranking_is_shown_as_such(interactions):
    windows = split(interactions)
    best = {
        (int(user), int(moment)): window.truth.item_ids[window.truth.indptr[i] : window.truth.indptr[i + 1]]
        for window in windows
        for i, (user, moment) in enumerate(
            zip(window.histories.user_ids, window.histories.as_of, strict=True)
        )
    }

    def known_best(histories, k):
        lists = np.full((len(histories), k), -1, dtype=np.int64)
        for row, key in enumerate(zip(histories.user_ids.tolist(), histories.as_of.tolist(), strict=True)):
            lists[row, : len(best[key])] = best[key][:k]
        return RankedItems(lists, np.zeros(lists.shape, np.float32))

    found = evaluate({}, interactions, known_best=known_best)
    assert found.results["known best"].kind == "known best"
    assert found.results["known best"].mean("ndcg_at_10") == 1.0


def test_progress_is_told_of_each_model_and_window(interactions):
    steps = Steps()
    evaluate({"a": Popularity, "b": Popularity}, interactions, progress=steps)
    assert steps.n == len(steps.steps) == 12


def test_model_named_like_a_reference_is_refused(interactions):
    with pytest.raises(ValueError, match="oracle"):
        evaluate({"oracle": Popularity}, interactions)


def test_data_without_queries_is_refused():
    few = Interactions.of([1, 2], [1, 2], [1, 2])
    with pytest.raises(DataError, match="finds no query in 2 interactions"):
        evaluate({"popularity": Popularity}, few)


def test_model_that_ranks_new_items_says_so(interactions, catalog):
    class New(Popularity):
        """Puts an item that nobody has chosen on top of every list."""

        def recommend(self, histories, k=10, **_):
            lists = super().recommend(histories, k)
            lists.item_ids[:, 0] = 185
            return lists

    found = evaluate({"new": New}, interactions, catalog).results["new"]
    assert found.listed_new == found.n_queries()


def test_model_without_config_is_not_cached(interactions, tmp_path):
    class Bare:
        def fit(self, interactions, catalog=None, **_):
            self.model = Popularity().fit(interactions)

        def recommend(self, histories, k=10):
            return self.model.recommend(histories, k)

    evaluate({"bare": Bare}, interactions, cache=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.realdata
def test_real_ratings_give_the_published_figures(realdata: Path):
    table = pq.read_table(realdata / "movielens-small.parquet")
    data = Interactions.of(
        table["user_id"].to_numpy(),
        table["movie_id"].to_numpy(),
        table["timestamp"].to_numpy() * 1_000_000,
        ratings=table["rating"].to_numpy() * 2,
    )
    movies = pq.read_table(
        realdata / "movielens-movies.parquet", columns=["movie_id", "title", "year", "genres"]
    )
    years = movies["year"].to_pylist()
    catalog = Catalog(
        pa.table(
            {
                "item_id": movies["movie_id"],
                "title": movies["title"].cast(pa.string()),
                "genres": [(genres or "").split("|") for genres in movies["genres"].to_pylist()],
                "release_date": [date(year, 1, 1) if year else None for year in years],
            }
        )
    )
    found = evaluate({"popularity": Popularity}, data, catalog)

    assert found.n_queries == 260
    assert found.results["oracle"].mean("ndcg_at_10") == pytest.approx(0.941, abs=5e-4)
    assert found.results["popularity"].mean("ndcg_at_10") == pytest.approx(0.107, abs=5e-4)
    assert found.results["random"].mean("ndcg_at_10") < 0.01


def test_learning_curve_of_a_fit_is_kept_also_in_the_cache(interactions, tmp_path):
    class Learning(Popularity):
        def fit(self, interactions, catalog=None, *, progress=silent):
            for epoch in range(3):
                progress.step({"loss": 1.0 / (epoch + 1)})
            return super().fit(interactions, catalog)

    for _ in range(2):
        found = evaluate({"learning": Learning}, interactions, slices=False, cache=tmp_path)
        assert [step["loss"] for step in found.results["learning"].curve] == [1.0, 0.5, 1 / 3]
