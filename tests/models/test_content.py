"""Content needs no interactions to place an item."""

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Histories, Interactions
from marquee.errors import ModelError
from marquee.models import Content, ModelState
from marquee.models.content import ContentConfig
from marquee.testing import RecommenderConformance, planted_tastes

CATALOG = Catalog(
    pa.table(
        {
            "item_id": [1, 2, 3, 4, 5],
            "title": ["Star Quest", "Star Quest II", "Quiet Meadow", "Meadow Song", "Untold"],
            "genres": [["Science Fiction"], ["Science Fiction"], ["Drama"], ["Drama"], None],
            "keywords": [["space", "war"], ["space", "war"], ["farm"], ["farm"], None],
        }
    )
)
ROWS = Interactions.of([1, 2, 2], [1, 1, 3], [1, 2, 3])


class TestContent(RecommenderConformance):
    """Facts alone recover planted tastes."""

    personal = True
    minimum_share = 0.6

    def make(self):
        return Content()

    def test_one_interaction_is_enough_to_fit(self):
        """The vocabulary is the whole catalogue, watched or not."""
        tastes = planted_tastes()
        model = self.make().fit(tastes.interactions.take(slice(0, 1)), tastes.catalog)
        assert len(model.items) == len(tastes.catalog)
        assert np.isfinite(model.score(tastes.interactions.histories())).all()


@pytest.fixture(scope="module")
def content():
    """A model of five films of which two were watched."""
    return Content(ContentConfig(min_items=1)).fit(ROWS, CATALOG)


def test_catalogue_items_without_interactions_follow_the_watched_ones(content):
    """The vocabulary is ordered by count, then id, and names the whole catalogue."""
    assert content.items.ids.tolist() == [1, 3, 2, 4, 5]
    assert content.item_counts.tolist() == [2, 1, 0, 0, 0]


def test_unwatched_sequel_is_recommended_first(content):
    """Nobody has watched item 2, but it is what the history is about."""
    assert content.recommend([1], 1).item_ids.tolist() == [[2]]
    assert content.recommend([3], 1).item_ids.tolist() == [[4]]


def test_similar_items_share_terms_and_leave_out_the_item_itself(content):
    """Unwatched items have neighbours; items without facts or unknown have none."""
    assert content.similar([2, 4], 1).item_ids.tolist() == [[1], [3]]
    assert content.similar([999], 3).item_ids.tolist() == [[-1, -1, -1]]
    for row, item in enumerate([1, 2, 3, 4, 5]):
        assert item not in content.similar([1, 2, 3, 4, 5], 5).item_ids[row]


def test_similarity_is_symmetric(content):
    """a is as like b as b is like a."""
    pairs = {}
    for item, row in zip([1, 2, 3, 4], content.similar([1, 2, 3, 4], 5).rows(), strict=True):
        pairs |= {(item, other): score for other, score in row}
    assert pairs
    for (a, b), score in pairs.items():
        assert pairs[b, a] == pytest.approx(score)


def test_without_a_catalogue_popularity_answers():
    """A model that knows no facts still answers."""
    model = Content().fit(ROWS)
    assert model.recommend(Histories.of_items([999], []), 1).item_ids.tolist() == [[1], [1]]


def test_damping_holds_back_items_of_which_little_is_known():
    """One common genre does not make an item a better match than a rich, shared description."""
    catalog = Catalog(
        pa.table(
            {
                "item_id": [1, 2, 3],
                "title": ["A", "B", "C"],
                "genres": [["Drama", "War"], ["Drama", "War"], ["Drama"]],
                "keywords": [["siege", "winter", "spy"], ["siege", "river", "love"], None],
            }
        )
    )
    rows = Interactions.of([1], [1], [1])
    ratio = []
    for damping in (0.0, 4.0):
        config = ContentConfig(kinds=("genres", "keywords"), min_items=1, damping=damping)
        scores = Content(config).fit(rows, catalog).score(Histories.of_items([1]))[0]
        ratio.append(scores[2] / scores[1])
    assert ratio[1] < ratio[0]


def test_below_one_neighbour_is_refused(content):
    """A list of no items is a mistake of the caller."""
    with pytest.raises(ValueError, match="k must be"):
        content.similar([1], 0)


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become content."""
    with pytest.raises(ModelError, match="terms"):
        Content.from_state(ModelState({}, {"config": {}}))
