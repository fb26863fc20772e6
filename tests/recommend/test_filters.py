import numpy as np
import pytest

from marquee.data import Vocabulary
from marquee.recommend.filters import Filters, ItemFacts


@pytest.fixture
def facts(varied_catalog) -> ItemFacts:
    return ItemFacts(varied_catalog.items, varied_catalog)


def test_default_leaves_out_adult_items_only(facts, varied_catalog):
    adult = np.array([value is True for value in varied_catalog.table["adult"].to_pylist()])
    np.testing.assert_array_equal(facts.mask(Filters()), ~adult)
    assert facts.mask(Filters(include_adult=True)).all()


@pytest.mark.parametrize(
    ("filters", "column", "fits"),
    [
        (Filters(genres=("horror", "Western")), "genres", lambda v: bool({"Horror", "Western"} & set(v))),
        (Filters(languages=(" KO",)), "original_language", lambda v: v == "ko"),
        (Filters(year_from=1970), "release_date", lambda v: v.year >= 1970),
        (Filters(year_to=1970), "release_date", lambda v: v.year <= 1970),
        (Filters(max_runtime_minutes=120), "runtime_minutes", lambda v: v <= 120),
        (Filters(exclude=(5000, 5001, 77)), "item_id", lambda v: v not in (5000, 5001)),
    ],
)
def test_each_filter_lets_through_what_is_known_to_fit(facts, varied_catalog, filters, column, fits):
    expected = [value is not None and fits(value) for value in varied_catalog.table[column].to_pylist()]
    np.testing.assert_array_equal(facts.mask(filters), facts.mask(Filters()) & np.array(expected))


def test_unknown_genre_and_language_find_nothing(facts):
    assert not facts.mask(Filters(genres=("Musical",))).any()
    assert not facts.mask(Filters(languages=("tlh",))).any()


def test_blocked_items_are_out_and_items_without_facts_stay_unless_a_filter_asks_one(varied_catalog):
    items = Vocabulary([10, 16, 19, 22])  # the catalogue does not know 10
    facts = ItemFacts(items, varied_catalog, blocked=np.array([19, 4]))
    assert facts.mask(Filters(include_adult=True)).tolist() == [True, True, False, True]
    assert not facts.mask(Filters(include_adult=True, year_from=1))[0]


def test_without_catalogue_only_filters_that_need_no_fact_find_something():
    facts = ItemFacts(Vocabulary([1, 2, 3]))
    assert facts.mask(Filters(exclude=(2,))).tolist() == [True, False, True]
    for filters in (Filters(genres=("Drama",)), Filters(year_from=1), Filters(max_runtime_minutes=999)):
        assert not facts.mask(filters).any()


def test_masks_of_two_requests_do_not_touch_each_other(facts):
    before = facts.mask(Filters()).copy()
    facts.mask(Filters(exclude=(5000,)))
    facts.without(facts.mask(Filters()), np.array([5001]))
    np.testing.assert_array_equal(facts.mask(Filters()), before)
    with pytest.raises(ValueError, match="read-only"):
        facts.mask(Filters())[0] = True
