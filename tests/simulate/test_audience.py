"""The virtual audience: determinism, bounds, rhythm, and a truth that can be recovered."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from marquee.data import Catalog, Event, Interactions
from marquee.simulate import Audience, AudienceConfig, Simulation

GENRES = ["Action", "Animation", "Comedy", "Crime", "Drama", "Horror", "Romance", "Western"]
HOUR = 3_600_000_000
DAY = 24 * HOUR


def make_catalog(n_items: int, seed: int = 0) -> tuple[Catalog, np.ndarray]:
    """Films with one to three genres, four decades of dates, and a heavy-tailed popularity."""
    random = np.random.default_rng(seed)
    table = pa.table(
        {
            "item_id": 10 * np.arange(1, n_items + 1),
            "title": [f"Film {i}" for i in range(n_items)],
            "release_date": pa.array(random.integers(4000, 19000, n_items), pa.int32()).cast(pa.date32()),
            "runtime_minutes": random.integers(70, 200, n_items),
            "genres": [
                list(random.choice(GENRES, random.integers(1, 4), replace=False)) for _ in range(n_items)
            ],
        }
    )
    return Catalog(table), 20 * (1 + random.pareto(1.5, n_items))


@pytest.fixture(scope="module")
def audience() -> Audience:
    return Audience(*make_catalog(200), AudienceConfig())


@pytest.fixture(scope="module")
def simulation(audience: Audience) -> Simulation:
    return audience.simulate()


def runtimes(catalog: Catalog, item_ids: np.ndarray) -> np.ndarray:
    return catalog.table["runtime_minutes"].to_numpy()[catalog.items.index(item_ids)]


def same(left: Interactions, right: Interactions) -> bool:
    return left.digest() == right.digest()


def test_same_seed_gives_same_bytes_and_another_seed_others() -> None:
    catalog, popularity = make_catalog(60)
    first, again = (Audience(catalog, popularity, AudienceConfig(seed=3)).simulate() for _ in range(2))
    other = Audience(catalog, popularity, AudienceConfig(seed=4)).simulate()
    assert same(first.interactions, again.interactions)
    assert np.array_equal(first.truth.tastes, again.truth.tastes)
    assert not same(first.interactions, other.interactions)


@pytest.mark.parametrize("rows", [1, 7, 1000, 10**9])
def test_chunk_size_changes_only_the_chunks(rows: int) -> None:
    # 9000 users fill more than two blocks.
    catalog, popularity = make_catalog(30)
    audience = Audience(catalog, popularity, AudienceConfig(users=9000, interactions_per_user=1))
    chunks = list(audience.chunks(rows))
    assert {len(chunk) for chunk in chunks[:-1]} <= {rows}
    assert 0 < len(chunks[-1]) <= rows
    joined = Interactions(
        *(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in Interactions.__slots__)
    )
    assert same(joined.sorted(), audience.simulate().interactions)
    assert len(np.unique(joined.user_ids)) == 9000


def test_the_rows_of_earlier_users_do_not_depend_on_later_blocks() -> None:
    catalog, popularity = make_catalog(30)
    small, large = (
        next(Audience(catalog, popularity, AudienceConfig(users=users, interactions_per_user=1)).chunks(500))
        for users in (5000, 9000)
    )
    assert same(small, large)


def test_default_audience_has_the_size_that_was_asked_for(simulation: Simulation) -> None:
    rows = simulation.interactions
    assert 2750 <= len(rows) <= 3050
    users, counts = np.unique(rows.user_ids, return_counts=True)
    assert np.array_equal(users, np.arange(1, 301))
    assert counts.max() > 4 * counts.mean(), "activity is heavy-tailed"
    assert len(np.unique(rows.item_ids)) > 190


def test_each_row_is_a_watch_within_its_bounds(simulation: Simulation) -> None:
    rows, config = simulation.interactions, AudienceConfig()
    assert (rows.events == Event.WATCH).all()
    assert ((rows.ratings >= 0) & (rows.ratings <= 10)).all()
    seconds = runtimes(make_catalog(200)[0], rows.item_ids) * 60
    assert ((rows.watch_seconds >= 0) & (rows.watch_seconds <= seconds)).all()
    assert ((rows.timestamps >= config.end - config.days * DAY) & (rows.timestamps < config.end)).all()
    assert (np.diff(rows.timestamps) >= 0).all()
    assert rows.to_arrow().num_rows == len(rows)


def test_no_user_watches_a_film_twice_unless_configured(simulation: Simulation) -> None:
    def repeats(rows: Interactions) -> float:
        return 1 - len(np.unique(np.stack([rows.user_ids, rows.item_ids]), axis=1).T) / len(rows)

    assert repeats(simulation.interactions) == 0
    again = Audience(*make_catalog(200), AudienceConfig(users=2000, rewatch_rate=0.1)).simulate()
    assert 0.05 < repeats(again.interactions) < 0.1  # the first choice of a user repeats nothing


def test_liked_films_are_watched_longer_and_rated_higher(simulation: Simulation) -> None:
    rows, truth = simulation.interactions, simulation.truth
    users, items = truth.users.index(rows.user_ids), truth.items.index(rows.item_ids)
    affinity = truth.affinity(truth.users.ids)[users, items]
    share = rows.watch_seconds / runtimes(make_catalog(200)[0], rows.item_ids) / 60
    assert np.corrcoef(affinity, rows.ratings)[0, 1] > 0.4
    assert np.corrcoef(affinity, share)[0, 1] > 0.3


def test_viewing_peaks_in_the_evening_of_the_users_clock_and_at_weekends() -> None:
    catalog, popularity = make_catalog(200)
    made = Audience(catalog, popularity, AudienceConfig(users=3000, days=84)).simulate()
    rows, truth = made.interactions, made.truth
    offset = truth.utc_offset_hours[truth.users.index(rows.user_ids)].astype(np.float64)
    local = rows.timestamps + (offset * HOUR).astype(np.int64)
    hours = np.bincount(local // HOUR % 24, minlength=24) / len(rows)
    assert hours[18:23].sum() > 0.5
    assert hours[2:8].sum() < 0.06
    weekend = ((local // DAY + 3) % 7 >= 5).mean()
    assert weekend == pytest.approx(2 * 1.6 / (2 * 1.6 + 5), abs=0.03)


def test_genre_fans_watch_mostly_their_genre(simulation: Simulation) -> None:
    rows, truth = simulation.interactions, simulation.truth
    favourite, strength = truth.genre_tastes.argmax(axis=1), truth.genre_tastes.max(axis=1)
    members = truth.appeal.genre_members()
    users, items = truth.users.index(rows.user_ids), truth.items.index(rows.item_ids)
    of_fans = (strength > 0.7)[users]
    in_genre = members[favourite[users], items]
    assert (strength > 0.7).sum() > 30
    assert in_genre[of_fans].mean() > 0.7
    assert in_genre.mean() > 1.5 * members[favourite].mean()


def test_popular_films_are_watched_more_often() -> None:
    catalog, popularity = make_catalog(200)
    rows = Audience(catalog, popularity, AudienceConfig(users=3000)).simulate().interactions
    counts = np.bincount(catalog.items.index(rows.item_ids), minlength=200)
    top = np.argsort(-popularity)[:40]
    assert counts[top].mean() > 1.15 * counts.mean()


def recall_at_10(lists: np.ndarray, held_out: np.ndarray) -> float:
    """Mean share of each user's held-out films that their list names."""
    users = held_out.any(axis=1)
    hits = np.take_along_axis(held_out, lists, axis=1).sum(axis=1)
    return float((hits[users] / held_out[users].sum(axis=1)).mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_truth_beats_item_knn_which_beats_popularity(seed: int) -> None:
    made = Audience(*make_catalog(200), AudienceConfig(users=1000, seed=seed)).simulate()
    rows, truth = made.interactions, made.truth
    hold = np.random.default_rng(0).random(len(rows)) < 0.2
    train = rows.take(~hold).matrix(truth.users, truth.items)
    held_out = rows.take(hold).matrix(truth.users, truth.items).toarray() > 0
    seen = train.toarray() > 0

    def lists(scores: np.ndarray) -> np.ndarray:
        return np.argsort(-np.where(seen, -np.inf, scores), axis=1, kind="stable")[:, :10]

    counts = np.asarray(train.sum(axis=0)).ravel()
    similar = train @ sparse.diags_array(1 / np.sqrt(counts + 5))
    neighbours = (similar.T @ similar).toarray()
    np.fill_diagonal(neighbours, 0)
    popular = recall_at_10(lists(np.broadcast_to(counts, seen.shape)), held_out)
    knn = recall_at_10(lists(train @ neighbours), held_out)
    ranked = truth.expected_ranking(truth.users.ids, 10, exclude=rows.take(~hold))
    known = recall_at_10(truth.items.index(ranked.item_ids.ravel()).reshape(ranked.item_ids.shape), held_out)
    assert knn > 1.4 * popular
    assert known > 1.15 * knn


def test_unknown_facts_are_no_obstacle() -> None:
    catalog = Catalog(
        pa.table({"item_id": [1, 2, 3], "title": ["a", "b", "c"], "runtime_minutes": [None, 0, 90]})
    )
    made = Audience(catalog, [np.nan, 2.0, 0.0], AudienceConfig(users=50, interactions_per_user=2)).simulate()
    assert made.truth.appeal.genres == ("unknown",)
    assert made.interactions.watch_seconds.max() <= 90 * 60


def test_users_are_numbered_from_the_configured_id() -> None:
    config = AudienceConfig(users=5, first_user_id=1_000_000)
    made = Audience(*make_catalog(20), config).simulate()
    assert np.unique(made.interactions.user_ids).tolist() == list(range(1_000_000, 1_000_005))


@settings(max_examples=40, deadline=None)
@given(
    n_items=st.integers(1, 12),
    config=st.builds(
        AudienceConfig,
        users=st.integers(1, 20),
        interactions_per_user=st.sampled_from([0.05, 1.0, 3.0, 50.0, 1e6]),
        days=st.integers(1, 10),
        seed=st.integers(0, 2**40),
        era_share=st.sampled_from([0.0, 0.5, 1.0]),
        exposures=st.integers(1, 8),
        browse_share=st.sampled_from([0.0, 0.5, 1.0]),
        popularity_exponent=st.sampled_from([0.0, 1.0, 8.0]),
        exposure_floor=st.sampled_from([0.0, 1.0]),
        choice_sharpness=st.sampled_from([0.0, 50.0]),
        rewatch_rate=st.sampled_from([0.0, 1.0]),
        taste_sharpness=st.sampled_from([0.1, 4.0, 40.0]),
        activity_spread=st.sampled_from([0.0, 3.0]),
        watch_noise=st.sampled_from([0.0, 100.0]),
        rating_noise=st.sampled_from([0.0, 100.0]),
    ),
)
def test_any_configuration_keeps_the_bounds(n_items: int, config: AudienceConfig) -> None:
    catalog, popularity = make_catalog(n_items)
    made = Audience(catalog, popularity, config).simulate()
    rows, truth = made.interactions, made.truth
    counts = np.bincount(rows.user_ids - config.first_user_id, minlength=config.users)
    assert len(counts) == config.users
    assert counts.max() <= n_items
    if config.interactions_per_user >= 1:
        assert counts.min() >= 1
    if config.interactions_per_user == 1e6 and config.activity_spread == 0:
        assert counts.min() == n_items
    if config.rewatch_rate == 0:
        assert len(set(zip(rows.user_ids.tolist(), rows.item_ids.tolist(), strict=True))) == len(rows)
    assert ((rows.ratings >= 0) & (rows.ratings <= 10)).all()
    assert ((rows.watch_seconds >= 0) & (rows.watch_seconds <= runtimes(catalog, rows.item_ids) * 60)).all()
    assert ((rows.timestamps >= config.end - config.days * DAY) & (rows.timestamps < config.end)).all()
    affinity = truth.affinity(truth.users.ids)
    assert ((affinity >= 0) & (affinity <= 1 + 1e-5)).all()
    assert sorted(truth.expected_ranking([config.first_user_id], n_items).item_ids[0]) == sorted(
        catalog.item_ids
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"days": 0},
        {"seed": -1},
        {"interactions_per_user": 0.0},
        {"interactions_per_user": float("nan")},
        {"era_share": 1.1},
        {"rating_noise": -1.0},
        {"utc_offset_hours": ()},
    ],
)
def test_impossible_configuration_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(AudienceConfig(), **wrong)


@pytest.mark.parametrize("popularity", [[1.0], [1.0, -1.0], [1.0, np.inf]])
def test_popularity_that_does_not_fit_is_refused(popularity: list[float]) -> None:
    catalog, _ = make_catalog(2)
    with pytest.raises(ValueError, match="popularity"):
        Audience(catalog, popularity)


def test_empty_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="films"):
        Audience(make_catalog(2)[0].__class__(make_catalog(2)[0].table.slice(0, 0)), [])


def test_chunk_of_no_rows_is_refused(audience: Audience) -> None:
    with pytest.raises(ValueError, match="n_rows_per_chunk"):
        audience.chunks(0)
