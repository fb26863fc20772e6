import numpy as np
import pytest

from marquee.data import Event, Histories, Interactions
from marquee.models.base import SCORE_ROWS
from marquee.recommend import Filters, RecommendationPipeline


@pytest.fixture
def pipeline(ease, tastes) -> RecommendationPipeline:
    return RecommendationPipeline(ease, tastes.catalog)


def one_event(item: int, event: Event, rating: float = np.nan) -> Histories:
    return Interactions.of([1], [item], [1], events=event, ratings=[rating]).histories()


def test_plain_list_is_the_models_own(pipeline, ease, tastes):
    histories = tastes.interactions.histories()
    ranked = pipeline.recommend(histories, 10)
    expected = ease.recommend(histories, 10)
    np.testing.assert_array_equal(ranked.item_ids, expected.item_ids)
    np.testing.assert_array_equal(ranked.scores, expected.scores)
    assert (ranked.propensities == 1).all()
    assert not ranked.explored.any()


@pytest.mark.parametrize(
    ("event", "rating", "comes_back"),
    [
        (Event.WATCH, np.nan, False),
        (Event.LIKE, np.nan, False),
        (Event.HIDE, np.nan, False),
        (Event.RATE, 2.0, False),
        (Event.RATE, 9.0, False),
        (Event.CLICK, np.nan, True),
    ],
)
def test_only_what_was_merely_clicked_comes_back(pipeline, ease, event, rating, comes_back):
    item = int(ease.items.ids[0])
    ranked = pipeline.recommend(one_event(item, event, rating), len(ease.items))
    assert (item in ranked.item_ids) is comes_back
    assert ranked.qualified.tolist() == [len(ease.items) - (not comes_back)]


def test_blocks_of_many_histories_agree_with_one_by_one(pipeline, tastes):
    histories = tastes.interactions.histories()
    many = histories.take(np.resize(np.arange(len(histories)), SCORE_ROWS + 30))
    ranked = pipeline.recommend(many, 5, diversity=0.5)
    alone = pipeline.recommend(histories.take(slice(3, 4)), 5, diversity=0.5)
    for row in (3, 3 + len(histories), SCORE_ROWS - SCORE_ROWS % len(histories) + 3):
        np.testing.assert_array_equal(ranked.item_ids[row], alone.item_ids[0])
    assert len(ranked) == len(many)
    assert pipeline.recommend(histories.take(slice(0, 0)), 5).item_ids.shape == (0, 5)


def test_exclude_and_blocked_items_are_left_out(ease, tastes):
    histories = tastes.interactions.histories()
    out, gone = ease.items.ids[:3], ease.items.ids[3:6]
    pipeline = RecommendationPipeline(ease, tastes.catalog, blocked=gone)
    ranked = pipeline.recommend(histories, 40, filters=Filters(exclude=(*out.tolist(), 10**9)))
    assert not np.isin(ranked.item_ids, np.r_[out, gone]).any()


def test_fewer_qualifying_items_than_k_are_counted(pipeline, tastes):
    ranked = pipeline.recommend(Histories.of_items([]), 20, filters=Filters(genres=("Western",)))
    assert ranked.qualified.tolist() == [12]
    assert (ranked.item_ids >= 0).sum() == 12


def test_nobody_known_gets_varied_popular_items(pipeline, ease, tastes):
    """Popular, but not all of one genre; and the same for everyone of whom nothing is known."""
    hidden = Interactions.of([5], [10**6], [1], events=Event.HIDE).histories()
    ranked = pipeline.recommend(Histories.of_items([], []), 8)
    assert not ranked.personal.any()
    assert len({tastes.genre_of_item[item] for item in ranked.item_ids[0].tolist()}) == 4
    assert ease.items.index(ranked.item_ids[0]).mean() < len(ease.items) / 2
    np.testing.assert_array_equal(ranked.item_ids[0], ranked.item_ids[1])
    np.testing.assert_array_equal(pipeline.recommend(hidden, 8).item_ids[0], ranked.item_ids[0])


def test_one_event_is_personal(pipeline, ease, tastes):
    item = int(ease.items.ids[1])
    ranked = pipeline.recommend(one_event(item, Event.WATCH), 5)
    assert ranked.personal.all()
    genres = [tastes.genre_of_item[other] for other in ranked.item_ids[0].tolist()]
    assert np.mean(np.array(genres) == tastes.genre_of_item[item]) >= 0.6


def test_explored_places_hold_rare_items_with_their_probability(pipeline, ease, tastes):
    histories = tastes.interactions.histories()
    ranked = pipeline.recommend(histories, 10, exploration=0.2, rng=np.random.default_rng(0))
    plain = pipeline.recommend(histories, 10)
    assert ranked.explored.mean() == pytest.approx(0.2)
    explored = ease.items.index(ranked.item_ids[ranked.explored])
    assert (ease.item_counts[explored] <= np.median(ease.item_counts)).all()
    for row in range(len(ranked)):
        assert not set(ranked.item_ids[row][ranked.explored[row]]) & set(plain.item_ids[row])
    rare = ease.items.ids[ease.item_counts <= np.median(ease.item_counts)]
    for row, start, stop in zip(range(len(ranked)), histories.indptr, histories.indptr[1:], strict=False):
        left = set(rare.tolist()) - set(plain.item_ids[row].tolist()) - set(histories.item_ids[start:stop])
        np.testing.assert_allclose(ranked.propensities[row][ranked.explored[row]], 0.2 / min(len(left), 20))
    index = ease.items.index(ranked.item_ids.ravel()).reshape(ranked.item_ids.shape)
    np.testing.assert_allclose(ranked.scores, np.take_along_axis(ease.score(histories), index, axis=1))
    again = pipeline.recommend(histories, 10, exploration=0.2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again.item_ids, ranked.item_ids)


def test_works_without_a_catalogue(ease, tastes):
    pipeline = RecommendationPipeline(ease)
    histories = tastes.interactions.histories()
    np.testing.assert_array_equal(
        pipeline.recommend(histories, 5, diversity=0.8).item_ids, ease.recommend(histories, 5).item_ids
    )
    assert (pipeline.recommend(Histories.of_items([]), 5).item_ids >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"diversity": 1.2}, "diversity"),
        ({"exploration": 0.1}, "generator"),
        ({"exploration": 2.0, "rng": np.random.default_rng(0)}, "exploration"),
    ],
)
def test_impossible_requests_are_refused(pipeline, wrong, message):
    with pytest.raises(ValueError, match=message):
        pipeline.recommend(Histories.of_items([]), **wrong)


def test_each_history_may_have_seen_more_than_it_holds(pipeline, ease, tastes):
    """Long histories are cut; what they have lost must not come back. Also where blocks of rows end."""
    histories = tastes.interactions.histories()
    many = histories.take(np.resize(np.arange(len(histories)), SCORE_ROWS + 30))
    rows = np.repeat([0, 2, SCORE_ROWS - 1, SCORE_ROWS, SCORE_ROWS + 3], 5)
    more = np.tile(ease.items.ids[:5], 5)
    ranked = pipeline.recommend(many, 48, seen=(rows, more))
    plain = pipeline.recommend(many, 48)
    for row in range(len(many)):
        expected = [i for i in plain.item_ids[row].tolist() if row not in rows or (i not in more and i >= 0)]
        assert [i for i in ranked.item_ids[row].tolist() if i >= 0] == [i for i in expected if i >= 0]
        assert ranked.qualified[row] == sum(i >= 0 for i in expected)


def test_ranking_for_nobody_is_varied_from_its_best(pipeline, tastes):
    """All of one genre come first in it."""
    table = tastes.catalog.table
    genres = dict(zip(table["item_id"].to_pylist(), table["genres"].to_pylist(), strict=True))
    of_item = [genres[i] for i in pipeline.scorer.items.ids.tolist()]
    ranking = np.array(sorted(range(len(of_item)), key=lambda index: (of_item[index], index)))

    def n_genres(chosen):
        return len({genre for index in chosen.tolist() for genre in of_item[index]})

    np.testing.assert_array_equal(pipeline.varied(ranking, 5, 0.0), ranking[:5])
    varied = pipeline.varied(ranking, 5, 1.0)
    assert len(set(varied.tolist())) == 5
    assert n_genres(varied) > n_genres(ranking[:5])
    assert sorted(pipeline.varied(ranking[:3], 10, 1.0).tolist()) == sorted(ranking[:3].tolist())


def test_ranking_without_a_catalogue_stays(ease):
    pipeline = RecommendationPipeline(ease)
    assert pipeline.varied(np.arange(20), 5, 1.0).tolist() == [0, 1, 2, 3, 4]
