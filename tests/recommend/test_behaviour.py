"""What every registered model does inside the pipeline, whatever it has learnt."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.data import Catalog, Event, Histories, Interactions
from marquee.models import Recommender, model_class
from marquee.recommend import Filters, RecommendationPipeline
from marquee.testing.planted import GENRES

NOT_PERSONAL = {"popularity", "mlp"}
"""Popularity knows nobody; the three inputs of the perceptron name an event's item, not a taste."""
SLACK = {"mlp": 0.02, "sasrec": 0.02}
"""How far a share may fall: for networks of a size that fits a test, which learn no such rule exactly."""
UNKNOWN = 999_999
ITEMS = 10 + 3 * np.arange(48)  # of the planted tastes


def genres_of(catalog: Catalog) -> dict[int, str]:
    lists = catalog.table["genres"].to_pylist()
    return {item: genres[0] for item, genres in zip(catalog.item_ids.tolist(), lists, strict=True)}


def shares(ranked, catalog: Catalog, genre: str) -> np.ndarray:
    genres = genres_of(catalog)
    return np.array([np.mean([genres[item] == genre for item, _ in row]) for row in ranked.rows()])


def fans(genre: int, n_events: int = 3) -> Histories:
    """Somebody who watched the items of one genre, as many histories as there are ways to start."""
    own = ITEMS[genre :: len(GENRES)]
    return Histories.of_items(*(np.roll(own, -i)[:n_events].tolist() for i in range(len(own))))


def test_order_of_equal_times_changes_no_list(model, tastes):
    rows = tastes.interactions
    day = 86_400_000_000
    rows = replace(rows, timestamps=rows.timestamps // day * day)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    pipeline = RecommendationPipeline(model, tastes.catalog)
    one, other = (pipeline.recommend(part.histories(), 10, diversity=0.3) for part in (rows, shuffled))
    np.testing.assert_array_equal(one.item_ids, other.item_ids)


def test_renamed_ids_get_the_same_lists(model, tastes):
    if model.name == "sasrec":
        pytest.skip("its training, and this property of it, is tested where PyTorch is installed")
    renamed = tastes.renamed(lambda ids: 7 * ids + 1000)
    again = model_class(model.name)(model.config).fit(renamed.interactions, renamed.catalog)
    for diversity in (0.0, 0.5):
        one = RecommendationPipeline(model, tastes.catalog).recommend(
            tastes.interactions.histories(), 10, diversity=diversity
        )
        other = RecommendationPipeline(again, renamed.catalog).recommend(
            renamed.interactions.histories(), 10, diversity=diversity
        )
        agree = (7 * one.item_ids + 1000 == other.item_ids).mean()
        assert agree > 0.99  # sums in another order may swap near-equals


@pytest.mark.parametrize("genre", range(len(GENRES)))
def test_more_watch_time_of_a_genre_never_lowers_its_share(model, tastes, genre):
    """On average over all users; watched for longer, then watched more of."""
    slack = SLACK.get(model.name, 1e-9)
    histories = tastes.interactions.histories()
    genres = genres_of(tastes.catalog)
    loved = np.array([genres[item] == GENRES[genre] for item in histories.item_ids.tolist()])
    pipeline = RecommendationPipeline(model, tastes.catalog)
    before = shares(pipeline.recommend(histories), tastes.catalog, GENRES[genre]).mean()
    longer = replace(histories, watch_seconds=histories.watch_seconds * np.where(loved, 1.2, 1.0))
    assert shares(pipeline.recommend(longer), tastes.catalog, GENRES[genre]).mean() >= before - slack
    if model.name not in NOT_PERSONAL:
        rows = tastes.interactions
        users = np.unique(rows.user_ids)
        item = int(ITEMS[genre::4][-1])
        more = Interactions.of(users, np.full(len(users), item), np.full(len(users), 10**13))
        both = Interactions(*(np.concatenate([getattr(p, f) for p in (rows, more)]) for f in rows.__slots__))
        after = shares(pipeline.recommend(both.histories()), tastes.catalog, GENRES[genre]).mean()
        assert after >= before - slack


@pytest.mark.parametrize("n_events", [1, 3])
def test_fan_of_one_genre_gets_it(model, tastes, n_events):
    """From the first event on; chance is a quarter."""
    if model.name in NOT_PERSONAL:
        return
    pipeline = RecommendationPipeline(model, tastes.catalog)
    lists = [pipeline.recommend(fans(genre, n_events), 5) for genre in range(len(GENRES))]
    assert all(ranked.personal.all() for ranked in lists)
    found = [shares(ranked, tastes.catalog, GENRES[genre]).mean() for genre, ranked in enumerate(lists)]
    assert np.mean(found) >= 0.6
    assert min(found) >= 0.35


def test_user_without_history_changes_nobody_else(model, tastes):
    histories = tastes.interactions.histories()
    pipeline = RecommendationPipeline(model, tastes.catalog)
    stranger = Interactions.of([10**6], [int(ITEMS[0])], [1], events=Event.HIDE)
    rows = tastes.interactions
    both = Interactions(*(np.concatenate([getattr(p, f) for p in (rows, stranger)]) for f in rows.__slots__))
    alone, beside = pipeline.recommend(histories), pipeline.recommend(both.histories(), 10)
    np.testing.assert_array_equal(alone.item_ids, beside.item_ids[: len(alone)])
    assert not beside.personal[-1]


events = st.lists(
    st.tuples(
        st.sampled_from([*ITEMS.tolist(), UNKNOWN]),
        st.sampled_from([Event.WATCH, Event.RATE, Event.LIKE, Event.HIDE, Event.CLICK]),
        st.floats(0, 10),
        st.integers(0, 5),
    ),
    max_size=60,
)
asked = st.builds(
    Filters,
    genres=st.lists(st.sampled_from([*GENRES, "western", "Musical"]), max_size=2).map(tuple),
    year_from=st.none() | st.integers(1950, 1995),
    year_to=st.none() | st.integers(1960, 2000),
    languages=st.lists(st.sampled_from(["en", "ko", "fr"]), max_size=2).map(tuple),
    max_runtime_minutes=st.none() | st.integers(80, 180),
    include_adult=st.booleans(),
    exclude=st.lists(st.sampled_from(ITEMS.tolist()), max_size=5).map(tuple),
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    events=events,
    filters=asked,
    k=st.integers(1, 60),
    diversity=st.sampled_from([0.0, 0.4, 1.0]),
    exploration=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_lists_hold_only_what_may_be_shown_and_are_full(
    model, varied_catalog, events, filters, k, diversity, exploration
):
    """Over random histories and filters, with and without variety, exploration and new items."""
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    items, kinds, stars, times = (np.array(column) for column in columns)
    rated = np.where(kinds == Event.RATE, stars, np.nan) if len(kinds) else stars
    histories = Histories.gather(
        Interactions.of(np.ones(len(items)), items, times, events=kinds, ratings=rated), [1, 2], 10
    )
    pipeline = RecommendationPipeline(model, varied_catalog, blocked=ITEMS[5:7])
    ranked = pipeline.recommend(
        histories,
        k,
        filters=filters,
        diversity=diversity,
        exploration=exploration,
        rng=np.random.default_rng(0),
    )
    gone = {item for item, kind, *_ in events if kind != Event.CLICK}
    for row, unseen in enumerate((gone, set())):
        fit = (
            (qualifying(varied_catalog, filters) | unknown(model, varied_catalog, filters))
            - unseen
            - set(ITEMS[5:7].tolist())
        )
        shown = ranked.item_ids[row][ranked.item_ids[row] >= 0].tolist()
        assert set(shown) <= fit
        assert len(shown) == len(set(shown)) == min(k, len(fit))
        assert ranked.qualified[row] == len(fit)
        assert (
            (ranked.propensities[row, : len(shown)] > 0) & (ranked.propensities[row, : len(shown)] <= 1)
        ).all()


def unknown(model: Recommender, catalog: Catalog, filters: Filters) -> set[int]:
    """Items of the model without facts: they pass where no filter asks for one."""
    if replace(filters, exclude=(), include_adult=False) != Filters():
        return set()
    return set(model.items.ids.tolist()) - set(catalog.item_ids.tolist()) - set(filters.exclude)


def qualifying(catalog: Catalog, filters: Filters) -> set[int]:
    """The filters in plain words, item by item."""
    wanted = {genre.lower() for genre in filters.genres}
    found = set()
    for film in catalog.table.to_pylist():
        year = film["release_date"].year if film["release_date"] else None
        if wanted and not wanted & {genre.lower() for genre in film["genres"] or []}:
            continue
        if filters.languages and film["original_language"] not in filters.languages:
            continue
        if filters.year_from is not None and (year is None or year < filters.year_from):
            continue
        if filters.year_to is not None and (year is None or year > filters.year_to):
            continue
        runtime, limit = film["runtime_minutes"], filters.max_runtime_minutes
        if limit is not None and (runtime is None or runtime > limit):
            continue
        if film["adult"] and not filters.include_adult:
            continue
        if film["item_id"] not in filters.exclude:
            found.add(film["item_id"])
    return found
