"""The two-stage recommender: conformance, honesty in time, and what its ranker adds."""

from dataclasses import fields

import numpy as np
import pytest

from marquee.data import Catalog, Event, Interactions
from marquee.models import model_class
from marquee.models.base import Recommender
from marquee.recommend import first_stage, two_stage
from marquee.recommend.two_stage import LinearStack, TwoStage, TwoStageConfig
from marquee.testing.conformance import RecommenderConformance, planted_tastes

FEW = ("ease", "item_knn", "content", "popularity", "popularity_60")


class TestTwoStage(RecommenderConformance):
    """Trees and regression over a small first stage."""

    personal = True

    def make(self) -> Recommender:
        return TwoStage(
            TwoStageConfig(sources=FEW, windows=3, window_share=0.15, trees=20, min_pairs=20, depth=10)
        )


class TestLinearStack(RecommenderConformance):
    """The regression alone."""

    personal = True

    def make(self) -> Recommender:
        return LinearStack(TwoStageConfig(sources=FEW, windows=3, window_share=0.15, depth=10))


def _joined(first: Interactions, second: Interactions) -> Interactions:
    return Interactions(
        *(np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(first))
    )


def _small(**changes: object) -> TwoStageConfig:
    values = {"sources": FEW, "windows": 3, "window_share": 0.15, "depth": 10, **changes}
    return TwoStageConfig.from_dict(values)


def test_registered_names_make_the_models() -> None:
    assert model_class("two_stage") is TwoStage
    assert model_class("linear_stack") is LinearStack


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="sources must be"):
        TwoStageConfig(sources=("ease", "oracle"))


def test_ranker_examples_do_not_change_with_planted_future_events() -> None:
    """A window's features may know nothing of what comes after it: only its labels do."""
    rows = planted_tastes().interactions.sorted()
    start, stop = int(0.7 * len(rows)), int(0.85 * len(rows))
    # Everybody rushes to one rare item, and everything of the window is rated badly.
    future = rows.take(slice(stop, None))
    rare = np.full(len(future), int(np.unique(rows.item_ids)[-1]))
    planted = Interactions.of(
        future.user_ids, rare, future.timestamps, ratings=np.zeros(len(future), np.float32)
    )
    honest = _examples(rows, start, stop)
    tampered = _examples(_joined(rows.take(slice(0, stop)), planted), start, stop)
    for name in ("features", "chosen", "indptr"):
        np.testing.assert_array_equal(getattr(honest, name), getattr(tampered, name))


def test_two_fits_give_the_same_lists() -> None:
    tastes = planted_tastes()
    lists = [
        TwoStage(_small(trees=20, min_pairs=20))
        .fit(tastes.interactions, tastes.catalog)
        .recommend(tastes.interactions.histories(), 5)
        .item_ids
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*lists)


@pytest.mark.parametrize("catalog", [None, "titles"])
def test_poor_catalogue_still_gives_personal_lists(catalog: str | None) -> None:
    """Facts help, but nothing depends on them."""
    tastes = planted_tastes()
    facts = None if catalog is None else Catalog(tastes.catalog.table.select(["item_id", "title"]))
    model = LinearStack(_small()).fit(tastes.interactions, facts)
    ranked = model.recommend(tastes.interactions.histories(), 5)
    genres = np.vectorize(tastes.genre_of_item.__getitem__)(ranked.item_ids)
    assert (genres == tastes.genre_of_user[:, None]).mean() > 0.5


def test_candidates_stand_above_all_other_items() -> None:
    tastes = planted_tastes()
    model = LinearStack(_small(depth=3)).fit(tastes.interactions, tastes.catalog)
    histories = tastes.interactions.histories()
    candidates, _ = model._stage.candidates(histories)
    inside = np.zeros((len(histories), len(model.items)), dtype=bool)
    inside[candidates.rows, candidates.items] = True
    scores = model.score(histories)
    least = np.where(inside, scores, np.inf).min(axis=1)
    assert (np.where(inside, -np.inf, scores).max(axis=1) < least).all()


def test_exposure_cost_spreads_lists_over_more_items() -> None:
    tastes = planted_tastes(n_users=200, n_items=120)
    histories = tastes.interactions.histories()
    distinct = []
    for exposure in (0.0, 1.0):
        model = LinearStack(_small(exposure=exposure, depth=30)).fit(tastes.interactions, tastes.catalog)
        distinct.append(len(np.unique(model.recommend(histories, 5).item_ids)))
    assert distinct[1] > distinct[0]


def test_large_catalogue_gets_the_lists_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only candidates are scored for is ranked the same, and lists that they cannot fill go on."""
    tastes = planted_tastes()
    histories = tastes.interactions.histories()
    model = TwoStage(_small(trees=5, sources=(*FEW, "markov"))).fit(tastes.interactions, tastes.catalog)
    for k in (5, len(model.items)):
        small = model.recommend(histories, k)
        with monkeypatch.context() as patch:
            patch.setattr(first_stage, "LARGE_ITEMS", 0)
            large = model.recommend(histories, k)
        np.testing.assert_array_equal(large.item_ids, small.item_ids)
        np.testing.assert_array_equal(large.scores, small.scores)


def test_fit_past_the_sizes_is_bounded_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tastes = planted_tastes()
    histories = tastes.interactions.histories()
    monkeypatch.setattr(first_stage, "LARGE_ITEMS", 10)
    monkeypatch.setattr(two_stage, "LARGE_ROWS", 100)
    for module in (first_stage, two_stage):
        monkeypatch.setattr(module, "USER_EVENTS", 8)
    monkeypatch.setattr(
        first_stage, "LARGE_SETTINGS", {"ease": {"dense_items": 12}, "markov": {"followers": 3}}
    )
    sources = ("ease", "markov", "popularity")
    lists = []
    for threads in (1, 2):
        model = TwoStage(_small(trees=5, sources=sources, threads=threads)).fit(
            tastes.interactions, tastes.catalog
        )
        lists.append(model.recommend(histories, 5))
    np.testing.assert_array_equal(lists[0].item_ids, lists[1].item_ids)
    arrays = model.state().arrays
    assert arrays["source_ease/dense"].shape == (12, 12)
    assert np.diff(arrays["source_markov/indptr"]).max() == 3
    newest = tastes.interactions.histories().last(8)
    assert model.item_counts.sum() == (newest.events != Event.HIDE).sum()


def _examples(rows: Interactions, start: int, stop: int):
    from marquee.features.port import join_as_of
    from marquee.recommend.content_facts import ContentFacts
    from marquee.recommend.past_queries import PastItems

    catalog = planted_tastes().catalog
    model = LinearStack(_small())
    return model._lists_of(
        rows.sorted(),
        start,
        stop,
        catalog,
        ContentFacts.of(catalog),
        {},
        PastItems(join_as_of),
        1000,
        np.random.default_rng(0),
    )
