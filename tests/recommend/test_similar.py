import json
from datetime import date
from importlib import resources

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Interactions
from marquee.errors import ModelError
from marquee.models.base import ModelState
from marquee.recommend.filters import Filters, ItemFacts
from marquee.recommend.similar import SimilarConfig, SimilarItems, content_vectors

NOBODY = Interactions.of([], [], [])


@pytest.fixture(scope="module")
def films() -> list[dict]:
    """The packaged sample; its collections are the truth and not told to the model."""
    lines = resources.files("marquee.ingest").joinpath("sample_catalogue.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def catalog(films) -> Catalog:
    same = ("item_id", "title", "genres", "keywords", "original_language")
    return Catalog(
        pa.table(
            {
                **{name: [film[name] for film in films] for name in same},
                "people": [film["directors"] + film["cast"] for film in films],
                "overview": [film["synopsis"] for film in films],
                "release_date": [date.fromisoformat(film["release_date"]) for film in films],
            }
        )
    )


@pytest.fixture(scope="module")
def unwatched(catalog) -> SimilarItems:
    return SimilarItems.fit(NOBODY, catalog)


@pytest.fixture(scope="module")
def learnt(tastes) -> SimilarItems:
    return SimilarItems.fit(tastes.interactions, tastes.catalog)


def ids_of(films: list[dict], *titles: str) -> list[int]:
    return [next(film["item_id"] for film in films if film["title"] == title) for title in titles]


@pytest.mark.parametrize(
    "series",
    [
        ("Toy Story", "Toy Story 2", "Toy Story 3"),
        ("The Godfather", "The Godfather Part II", "The Godfather Part III"),
        ("The Matrix", "The Matrix Reloaded", "The Matrix Revolutions"),
        ("Back to the Future", "Back to the Future Part II", "Back to the Future Part III"),
        ("Before Sunrise", "Before Sunset", "Before Midnight"),
        ("Batman Begins", "The Dark Knight", "The Dark Knight Rises"),
        ("Kill Bill: Vol. 1", "Kill Bill: Vol. 2"),
        ("Alien", "Aliens"),
    ],
)
def test_sequels_are_each_others_neighbours_through_content(unwatched, films, series):
    ids = ids_of(films, *series)
    for item in ids:
        near = unwatched.similar([item], 5).item_ids[0].tolist()
        assert set(ids) - {item} <= set(near), item


def test_nearly_all_collections_are_found(unwatched, films):
    """Of the films of one collection, nine in ten are among each other's first ten."""
    mates: dict[str, list[int]] = {}
    for film in films:
        mates.setdefault(film["collection"] or str(film["item_id"]), []).append(film["item_id"])
    found = wanted = 0
    for ids in mates.values():
        for item in ids:
            found += len(set(ids) & set(unwatched.similar([item], 10).item_ids[0].tolist()))
            wanted += min(len(ids) - 1, 10)
    assert found / wanted > 0.9


def test_few_interactions_leave_sequels_together(catalog, films):
    rng = np.random.default_rng(0)
    rows = Interactions.of(rng.integers(0, 40, 400), rng.choice(catalog.item_ids, 400), np.arange(400))
    similar = SimilarItems.fit(rows, catalog)
    ids = ids_of(films, "The Matrix", "The Matrix Reloaded", "The Matrix Revolutions")
    for item in ids:
        assert set(ids) - {item} <= set(similar.similar([item], 5).item_ids[0].tolist())


def test_similarity_is_symmetric(learnt):
    n = len(learnt.items)
    pairs = np.full((n, n), np.nan, np.float32)
    row, place = np.nonzero(learnt.neighbours >= 0)
    pairs[row, learnt.neighbours[row, place]] = learnt.similarities[row, place]
    both = np.isfinite(pairs) & np.isfinite(pairs.T)
    assert both.sum() > n
    np.testing.assert_allclose(pairs[both], pairs.T[both], rtol=1e-5)


def test_films_watched_by_the_same_people_are_similar_without_any_facts(tastes):
    similar = SimilarItems.fit(tastes.interactions, config=SimilarConfig(shrinkage=1.0))
    genre = tastes.genre_of_item
    near = [
        genre[other] == genre[item]
        for item in similar.items.ids[:20].tolist()
        for other, _ in next(similar.similar([item], 3).rows())
    ]
    assert np.mean(near) > 0.8


def test_trust_in_viewers_grows_with_their_number(films, catalog):
    """Two films of nothing in common become neighbours when the same many people watch them."""
    a, b = ids_of(films, "Toy Story", "Alien")
    others = catalog.item_ids[:30]

    def rank(n_users: int) -> int:
        users = np.arange(n_users)
        rest = Interactions.of(np.repeat(10**4 + np.arange(200), 1), np.resize(others, 200), np.arange(200))
        pair = Interactions.of(np.r_[users, users], np.repeat([a, b], n_users), np.arange(2 * n_users))
        rows = Interactions(*(np.concatenate([getattr(p, f) for p in (rest, pair)]) for f in rest.__slots__))
        near = SimilarItems.fit(rows, catalog).similar([a], 100).item_ids[0].tolist()
        return near.index(b) if b in near else 1000

    assert rank(1) > 10
    assert rank(300) == 0


def test_lists_leave_out_the_item_itself_and_what_is_not_allowed(unwatched, catalog, films):
    item = ids_of(films, "Toy Story")[0]
    allowed = ItemFacts(unwatched.items, catalog).mask(Filters(genres=("Horror",)))
    near = unwatched.similar([item], 10, allowed=allowed).item_ids[0]
    horror = {film["item_id"] for film in films if "Horror" in film["genres"]}
    assert set(near[near >= 0].tolist()) <= horror
    assert item not in unwatched.similar([item], 50).item_ids


def test_unknown_item_has_an_empty_list(unwatched, learnt):
    assert (unwatched.similar([10**9], 4).item_ids == -1).all()
    assert (SimilarItems.fit(NOBODY).similar([1], 4).item_ids == -1).all()
    with pytest.raises(ValueError, match="k must be"):
        learnt.similar([10], 0)


def test_restored_state_answers_the_same(learnt):
    state = learnt.state()
    restored = SimilarItems.from_state(ModelState(state.arrays, json.loads(json.dumps(state.meta))))
    ids = learnt.items.ids[:9]
    np.testing.assert_array_equal(restored.similar(ids, 7).item_ids, learnt.similar(ids, 7).item_ids)
    assert restored.config == learnt.config
    with pytest.raises(ModelError, match="neighbours"):
        SimilarItems.from_state(ModelState({"item_ids": state.arrays["item_ids"]}, state.meta))


def test_one_users_long_history_counts_with_its_newest_events_only(tastes):
    rows = Interactions.of([1] * 6, [1, 2, 3, 4, 5, 6], np.arange(6))
    near = SimilarItems.fit(
        Interactions.of(np.r_[[1] * 6, [2, 2]], np.r_[1:7, 5, 9], np.r_[0:6, 0, 1]),
        config=SimilarConfig(newest_events=2, shrinkage=0.1),
    )
    assert len(rows) == 6
    assert near.similar([1], 3).item_ids[0].tolist() == [-1, -1, -1]


def test_items_without_facts_are_like_nothing(varied_catalog):
    vectors = content_vectors(varied_catalog.items, None)
    assert vectors.shape == (len(varied_catalog), 0)
