import numpy as np
import pytest

from marquee.data import Event, Histories, Interactions
from marquee.recommend import RecommendationPipeline, explain
from marquee.recommend.explain import contributions


@pytest.fixture
def history(tastes) -> Histories:
    return tastes.interactions.histories().take(slice(3, 4))


def without(history: Histories, item: int) -> Histories:
    return history.where(history.item_ids != item)


def test_removing_a_named_item_changes_the_score_by_its_share(model, history):
    ids = RecommendationPipeline(model).recommend(history, 5).item_ids[0]
    for found in explain(model, history, ids, n=4):
        column = model.items.index([found.item_id])[0]
        score = float(model.score(history)[0, column])
        assert found.score == pytest.approx(score, rel=1e-5)
        for reason in found.because:
            left = float(model.score(without(history, reason.item_id))[0, column])
            assert left == pytest.approx(score - reason.share * abs(score), rel=1e-3, abs=1e-6)


def test_reasons_are_positive_strongest_first_and_of_the_history(model, history):
    """An item that was hidden is never a reason."""
    ids = RecommendationPipeline(model).recommend(history, 3).item_ids[0]
    watched = history.item_ids[history.events != Event.HIDE].tolist()
    for found in explain(model, history, ids):
        shares = [reason.share for reason in found.because]
        assert shares == sorted(shares, reverse=True)
        assert all(share > 0 for share in shares)
        assert {reason.item_id for reason in found.because} <= set(watched)


@pytest.mark.parametrize("name", ["content", "ease", "ials", "item_knn"])
def test_first_reason_is_of_the_genre_of_the_film(name, load, tastes):
    """Where the score is made of likenesses; what follows what, or what a ranker learnt, may be another."""
    model, genre = load(name), tastes.genre_of_item
    same = []
    for row in range(12):
        history = tastes.interactions.histories().take(slice(row, row + 1))
        ids = RecommendationPipeline(model).recommend(history, 3).item_ids[0]
        for found in explain(model, history, ids):
            same += [genre[reason.item_id] == genre[found.item_id] for reason in found.because[:1]]
    assert np.mean(same) >= 0.6


def test_shares_of_a_linear_model_of_equal_weights_are_its_summands(tastes):
    from marquee.models import Ease

    plain = Ease.Config(history_half_life_events=None, history_half_life_days=None, rating_weight=0.0)
    model = Ease(plain).fit(tastes.interactions)
    items = model.items.ids[[0, 5, 9, 20]].tolist()
    history = Histories.of_items(items)
    target = model.items.ids[[3, 7]]
    past, shares, scores = contributions(model, history, target)
    assert past.tolist() == items[::-1]  # newest first
    alone = np.array(
        [model.score(Histories.of_items([item]))[0, model.items.index(target)] for item in past.tolist()]
    )
    np.testing.assert_allclose(shares * np.abs(scores), alone, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=0), np.sign(scores), rtol=1e-3)


def test_only_item_of_a_history_has_the_whole_share(ease):
    (found,) = explain(ease, Histories.of_items([int(ease.items.ids[2])]), [int(ease.items.ids[6])])
    assert [(reason.item_id, reason.share) for reason in found.because] == [(int(ease.items.ids[2]), 1.0)]


def test_all_events_of_an_item_go_together(ease):
    a, b, target = (int(ease.items.ids[i]) for i in (1, 4, 8))
    rows = Interactions.of([1] * 3, [a, b, a], [1, 2, 3], events=Event.WATCH)
    past, shares, _ = contributions(ease, rows.histories(), np.array([target]))
    assert past.tolist() == [a, b]
    score = ease.score(rows.histories())[0, 8]
    left = ease.score(rows.take(slice(1, 2)).histories())[0, 8]
    assert shares[0, 0] == pytest.approx((score - left) / abs(score), rel=1e-4)


def test_empty_history_has_no_reasons_and_unknown_items_no_score(ease):
    found = explain(ease, Histories.of_items([]), [int(ease.items.ids[0]), 999_999])
    assert [len(one.because) for one in found] == [0, 0]
    assert np.isfinite(found[0].score)
    assert np.isnan(found[1].score)


def test_long_histories_try_their_newest_items_only(ease):
    items = ease.items.ids[:20].tolist()
    past, shares, _ = contributions(ease, Histories.of_items(items), ease.items.ids[30:31], newest=5)
    assert past.tolist() == items[:-6:-1]
    assert len(shares) == 5


def test_features_in_words_come_from_the_hook_or_the_scorer(ease, history):
    ids = ease.items.ids[:2]

    def words(asked, items):
        assert asked is history
        return [["new this week"] for _ in items]

    assert [found.features for found in explain(ease, history, ids, feature_reasons=words)] == [
        ("new this week",)
    ] * 2
    assert explain(ease, history, ids)[0].features == ()

    class Speaking(type(ease)):
        feature_reasons = staticmethod(words)

    speaking = Speaking.from_state(ease.state())
    assert explain(speaking, history, ids)[0].features == ("new this week",)


def test_two_histories_at_once_are_refused(ease, tastes):
    with pytest.raises(ValueError, match="One history"):
        explain(ease, tastes.interactions.histories(), [1])
