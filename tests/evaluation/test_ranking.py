import numpy as np
import pytest

from marquee.data.dataset import Histories, Interactions
from marquee.data.ranked import RankedItems
from marquee.data.schema import Event
from marquee.data.split import split
from marquee.data.vocabulary import Vocabulary
from marquee.errors import ModelError
from marquee.evaluation.ranking import oracle_lists, random_lists, rank_histories, rank_window
from marquee.models.popularity import Popularity


class Backwards(Popularity):
    """Holds its items in the order of their ids, one that nobody has chosen among them."""

    name = "backwards"

    def fit(self, interactions, catalog=None, **_):
        super().fit(interactions)
        counts = dict(zip(self.items.ids.tolist(), self._scores.tolist(), strict=True))
        counts[1] = 0.0
        ids = sorted(counts)
        self._items = Vocabulary(ids)
        self._scores = np.array([counts[item] for item in ids], dtype=np.float32)
        return self


class Fixed:
    """Lists the same items for everybody, whatever they know."""

    def __init__(self, *items: int) -> None:
        self.items = items

    def fit(self, interactions, catalog=None, **_):
        return self

    def recommend(self, histories, k=10):
        lists = np.full((len(histories), k), -1, dtype=np.int64)
        lists[:, : len(self.items)] = self.items[:k]
        return RankedItems(lists, np.zeros(lists.shape, np.float32))


def test_equal_scores_rank_by_count_then_by_id():
    data = Interactions.of([1, 2, 3, 1, 2, 1], [7, 7, 7, 5, 9, 3], [0] * 6)
    model = Popularity().fit(data)
    catalogue = Vocabulary.by_count(data.item_ids)
    assert rank_histories(model, Histories.of_items([]), catalogue, k=4).tolist() == [[7, 3, 5, 9]]


def test_model_with_another_order_ranks_by_the_rules_of_the_catalogue(interactions):
    window = split(interactions)[5]
    expected = rank_window(Popularity(), window, [], None).lists
    found = rank_window(Backwards(), window, [], None).lists
    for name, lists in expected.items():
        assert found[name].tolist() == lists.tolist()


def test_known_items_are_taken_out_of_any_list():
    model = Fixed(1, 2, 3, 4)
    lists = rank_histories(model, Histories.of_items([2], [4, 1]), Vocabulary([1, 2, 3, 4]), k=3)
    assert lists.tolist() == [[1, 3, -1], [2, 3, -1]]


def test_clicked_item_may_be_listed():
    data = Interactions.of([1, 1], [2, 3], [0, 1], events=[int(Event.CLICK), int(Event.WATCH)])
    lists = rank_histories(Fixed(1, 2, 3), data.histories(), Vocabulary([1, 2, 3]), k=3)
    assert lists.tolist() == [[1, 2, -1]]


def test_items_taken_out_of_the_input_are_made_up_for():
    seen = Histories.of_items([8, 9, 1])
    known = seen.where(seen.item_ids == 1)  # 8 and 9 are not in the catalogue
    lists = rank_histories(Fixed(8, 9, 1, 2, 3), known, Vocabulary([1, 2, 3]), seen=seen, k=3)
    assert lists.tolist() == [[2, 3, -1]]


def test_item_listed_twice_is_refused():
    with pytest.raises(ModelError, match="Fixed lists an item twice"):
        rank_histories(Fixed(1, 1), Histories.of_items([2]), Vocabulary([1, 2]))


def test_history_items_outside_the_catalogue_do_not_reach_the_model(make):
    asked = []

    class Asking(Fixed):
        def recommend(self, histories, k=10):
            asked.append(histories)
            return super().recommend(histories, k)

    window = split(make(n_items=500))[0]
    rank_window(Asking(100), window, [], None)
    catalogue = window.catalogue()
    assert (catalogue.index(window.histories.item_ids) < 0).any()
    assert all((catalogue.index(histories.item_ids) >= 0).all() for histories in asked)
    whole, last_1, last_3 = asked
    assert whole.lengths.max() > 3
    assert last_1.lengths.max() == 1
    assert last_3.lengths.max() == 3


def test_oracle_lists_the_ground_truth_within_the_catalogue(interactions):
    window = split(interactions)[0]
    lists = oracle_lists(window.truth, window.catalogue())
    for row, items in enumerate(lists):
        truth = window.truth.item_ids[window.truth.indptr[row] : window.truth.indptr[row + 1]]
        assert set(items[items >= 0]) == {i for i in truth if i in window.catalogue()}


def test_random_lists_hold_distinct_unknown_items():
    histories = Histories.of_items([*range(30)], [0, 1], [])
    lists = random_lists(histories, Vocabulary(np.arange(40)), np.random.default_rng(0))
    assert sorted(lists[0][:10].tolist()) == [*range(30, 40)]
    assert (lists[0][10:] == -1).all()
    assert len(set(lists[1].tolist())) == 20
    assert not {0, 1} & set(lists[1].tolist())
