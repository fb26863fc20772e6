from dataclasses import dataclass

import pytest

from marquee.data.split import split
from marquee.evaluation import tune as tuning
from marquee.evaluation.offline import evaluate
from marquee.evaluation.tune import tune
from marquee.models.base import ModelConfig, tunable
from marquee.models.popularity import Popularity, PopularityConfig


@dataclass(frozen=True)
class WideConfig(PopularityConfig):
    """One of each kind of range."""

    neighbours: int = tunable(10, "An integer.", low=1, high=100, log=True)
    weight: float = tunable(0.5, "A float.", low=0.0, high=1.0)
    layers: tuple[int, ...] = tunable((8,), "A choice.", choices=((8,), (8, 8)))


class Wide(Popularity):
    name = "wide"
    Config = WideConfig
    fitted_rows: list[int] = []  # noqa: RUF012

    def fit(self, interactions, catalog=None, **kwargs):
        Wide.fitted_rows.append(len(interactions))
        return super().fit(interactions, catalog, **kwargs)


def test_best_trial_is_what_the_tuning_windows_say(interactions):
    found = tune(Popularity, interactions, trials=8)
    best = evaluate({"best": lambda: Popularity(found.config)}, interactions, stage="tuning", slices=False)
    assert found.value == pytest.approx(best.results["best"].mean("ndcg_at_10"))
    assert found.value == max(trial.ndcg_at_10 for trial in found.trials)
    assert len(found.trials) == 8


def test_first_trial_is_the_default(interactions):
    found = tune(Wide, interactions, trials=1)
    assert found.config == WideConfig()


def test_values_stay_in_their_ranges_and_keep_their_types(interactions):
    for trial in tune(Wide, interactions, trials=6).trials:
        config = WideConfig(**trial.values)
        assert isinstance(config.neighbours, int)
        assert 1 <= config.neighbours <= 100
        assert 0.0 <= config.weight <= 1.0
        assert config.layers in {(8,), (8, 8)}


def test_only_tuning_windows_are_fitted(interactions):
    Wide.fitted_rows.clear()
    tune(Wide, interactions, trials=2)
    assert set(Wide.fitted_rows) == {len(window.fit) for window in split(interactions) if window.tuning}


def test_same_seed_gives_the_same_trials(interactions):
    one, other = (tune(Wide, interactions, trials=5, seed=3).trials for _ in range(2))
    assert one == other


def test_search_goes_on_where_it_stopped(interactions, tmp_path):
    storage = tmp_path / "studies" / "journal.log"
    first = tune(Wide, interactions, trials=3, storage=storage)
    Wide.fitted_rows.clear()
    second = tune(Wide, interactions, trials=5, storage=storage)
    assert second.trials[:3] == first.trials
    assert len(second.trials) == 5
    assert len(Wide.fitted_rows) == 2 * 4
    assert len({str(trial.values) for trial in second.trials}) == 5


def test_database_is_a_storage_too(interactions, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    first = tune(Wide, interactions, trials=2, storage=storage)
    assert tune(Wide, interactions, trials=2, storage=storage).trials == first.trials


def test_budget_that_is_up_ends_after_the_trial_under_way(interactions):
    found = tune(Wide, interactions, minutes=1e-9, trials=None)
    assert len(found.trials) == 1


def test_model_without_search_space_is_refused(interactions):
    class Plain(Popularity):
        Config = ModelConfig

    with pytest.raises(ValueError, match="has no search space"):
        tune(Plain, interactions)


def test_search_without_an_end_is_refused(interactions):
    with pytest.raises(ValueError, match="minutes or trials"):
        tuning.tune(Popularity, interactions, trials=None)
