import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Event, Histories, Interactions
from marquee.recommend import RecommendationPipeline, explain
from marquee.recommend.new_items import WithNewItems
from marquee.testing.planted import GENRES

NEW = [7000 + genre for genre in range(len(GENRES))]
STRANGE = 7100


@pytest.fixture(scope="module")
def catalog(tastes) -> Catalog:
    """The planted films, one new film of each genre, and one that is like nothing."""
    films = tastes.catalog.table.to_pylist()
    new = [{**films[genre], "item_id": NEW[genre], "title": f"New {genre}"} for genre in range(len(GENRES))]
    nothing = {"item_id": STRANGE, "title": "?", "adult": False}
    return Catalog(pa.Table.from_pylist([*films, *new, nothing], schema=tastes.catalog.table.schema))


@pytest.fixture
def scorer(ease, catalog) -> WithNewItems:
    return WithNewItems(ease, catalog)


def test_known_items_keep_their_scores(scorer, ease, tastes):
    histories = tastes.interactions.histories()
    scores = scorer.score(histories)
    np.testing.assert_array_equal(scores[:, : len(ease.items)], ease.score(histories))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scorer.items.ids[len(ease.items) :].tolist() == [*NEW, STRANGE]
    assert not scorer.item_counts[len(ease.items) :].any()


def test_new_items_are_scored_by_taste(scorer, ease, tastes):
    """The fans of a genre get its new film above those of other genres and above a strange one."""
    new = scorer.score(tastes.interactions.histories())[:, len(ease.items) :]
    assert (new[:, :4].argmax(axis=1) == tastes.genre_of_user).mean() > 0.8
    assert (new[:, 4] <= new[:, :4].min(axis=1)).all()


def test_new_item_of_the_genre_comes_up_in_the_lists_of_its_fans(ease, catalog, tastes):
    pipeline = RecommendationPipeline(ease, catalog)
    ranked = pipeline.recommend(tastes.interactions.histories(), 10)
    for genre, item in enumerate(NEW):
        listed = (ranked.item_ids == item).any(axis=1)
        assert listed[tastes.genre_of_user == genre].mean() > 0.5
        assert listed[tastes.genre_of_user != genre].mean() < 0.25


def test_event_with_a_new_item_is_personal_at_once(ease, catalog, tastes):
    pipeline = RecommendationPipeline(ease, catalog)
    for genre, item in enumerate(NEW):
        ranked = pipeline.recommend(Histories.of_items([item]), 5)
        assert ranked.personal.all()
        assert item not in ranked.item_ids
        genres = [tastes.genre_of_item[i] for i, _ in next(ranked.rows()) if i in tastes.genre_of_item]
        assert np.mean(np.array(genres) == genre) >= 0.6


def test_reasons_for_a_new_item_are_faithful(scorer, tastes):
    history = tastes.interactions.histories().take(slice(2, 3))
    (found,) = explain(scorer, history, [NEW[int(tastes.genre_of_user[2])]])
    column = scorer.items.index([found.item_id])[0]
    for reason in found.because:
        left = scorer.score(history.where(history.item_ids != reason.item_id))[0, column]
        assert left == pytest.approx(found.score * (1 - reason.share), rel=1e-3)
    assert found.because


def test_hidden_new_item_does_not_come_back(ease, catalog):
    rows = Interactions.of([1], [NEW[0]], [1], events=Event.HIDE)
    ranked = RecommendationPipeline(ease, catalog).recommend(rows.histories(), 60)
    assert NEW[0] not in ranked.item_ids
    assert ranked.qualified.tolist() == [len(catalog) - 1]


def test_catalogue_without_new_items_leaves_the_model_as_it_is(ease, tastes):
    assert RecommendationPipeline(ease, tastes.catalog).scorer is ease
