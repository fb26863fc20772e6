import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Histories, Vocabulary
from marquee.recommend.diversify import Diversifier

DIALS = np.linspace(0, 1, 6).astype(np.float32)
GENRES = ("Drama", "Comedy", "War", "Crime", "Horror", "Western")


@pytest.fixture(scope="module")
def films() -> Catalog:
    rng = np.random.default_rng(0)
    n = 400
    return Catalog(
        pa.table(
            {
                "item_id": np.arange(n),
                "title": [f"Film {i}" for i in range(n)],
                "genres": [rng.choice(GENRES, rng.integers(1, 4), replace=False).tolist() for _ in range(n)],
                "keywords": [[f"k{word}" for word in rng.integers(0, 60, 5)] for _ in range(n)],
            }
        )
    )


@pytest.fixture(scope="module")
def diversifier(films) -> Diversifier:
    return Diversifier.of_catalog(films.items, films)


@pytest.fixture(scope="module")
def pools() -> np.ndarray:
    """Pools that lean to one genre each, as those of real users do."""
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(400)[:60] for _ in range(150)])


def distance(films: Catalog, lists: np.ndarray) -> float:
    """Mean 1 − Jaccard of the genres of all pairs."""
    sets = [set(genres) for genres in films.table["genres"].to_pylist()]
    return float(
        np.mean(
            [
                1 - len(sets[a] & sets[b]) / len(sets[a] | sets[b])
                for row in lists
                for i, a in enumerate(row)
                for b in row[:i]
            ]
        )
    )


def test_dial_of_zero_leaves_the_order(diversifier, pools):
    taste = np.full((len(pools), 6), 1 / 6, np.float32)
    made = diversifier.rerank(pools, 10, np.zeros(len(pools), np.float32), taste)
    np.testing.assert_array_equal(made, pools[:, :10])


@pytest.mark.parametrize("focus", [None, 0])
def test_more_dial_is_no_less_diverse(diversifier, films, pools, focus):
    """On average, for tastes of everything and of one genre."""
    taste = np.full((len(pools), 6), 1 / 6, np.float32)
    if focus is not None:
        taste = np.eye(6, dtype=np.float32)[np.full(len(pools), focus)]
    found = [
        distance(films, diversifier.rerank(pools, 10, np.full(len(pools), dial), taste)) for dial in DIALS
    ]
    assert (np.diff(found) >= -0.005).all(), found
    assert found[-1] > found[0] + 0.1


def test_lists_follow_the_genres_of_the_history(diversifier, films, pools):
    """A fan of one genre keeps it while the list gets more varied."""
    lean = np.eye(6, dtype=np.float32)[np.full(len(pools), 3)]
    even = np.full((len(pools), 6), 1 / 6, np.float32)
    dials = np.full(len(pools), np.float32(0.5))
    genre = sorted(GENRES)[3]
    share = {
        name: np.mean(
            [
                genre in films.table["genres"][int(item)].as_py()
                for item in diversifier.rerank(pools, 10, dials, taste).ravel()
            ]
        )
        for name, taste in (("lean", lean), ("even", even))
    }
    assert share["lean"] > share["even"] + 0.1


def test_greedy_choice_is_that_of_the_written_objective(films):
    """The fast inference equals the definition, with determinants taken anew at each step."""
    diversifier = Diversifier.of_catalog(films.items, films)
    pool, dial, k = np.arange(0, 60, 3), 0.7, 6
    taste = np.random.default_rng(2).dirichlet(np.ones(6)).astype(np.float32)
    made = diversifier.rerank(pool[None], k, np.float32([dial]), taste[None])[0]
    w = dial**2
    likeness = diversifier._vectors @ diversifier._vectors.T
    np.fill_diagonal(likeness, 1.0)

    def objective(chosen: list[int]) -> float:
        relevance = sum(1 / np.log2(2 + list(pool).index(item)) for item in chosen)
        q = diversifier._genres[chosen].mean(axis=0)
        volume = np.linalg.slogdet(likeness[np.ix_(chosen, chosen)].astype(np.float64))[1]
        return (1 - w) * relevance + w * (volume + (1 - w) * len(chosen) * np.sqrt(taste * q).sum())

    chosen: list[int] = []
    for item in made.tolist():
        rest = [other for other in pool.tolist() if other not in chosen]
        values = [objective([*chosen, other]) for other in rest]
        assert objective([*chosen, item]) >= max(values) - 1e-4
        chosen.append(item)


def test_short_pools_are_listed_whole_and_padded(diversifier):
    pools = np.array([[5, 7, -1, -1], [1, 2, 3, 4]])
    made = diversifier.rerank(pools, 6, np.float32([1, 1]), np.zeros((2, 6), np.float32))
    assert set(made[0].tolist()) == {5, 7, -1}
    assert made[0, 2:].tolist() == [-1] * 4
    assert sorted(made[1].tolist()) == [-1, -1, 1, 2, 3, 4]


def test_taste_spreads_each_item_over_its_genres_and_forgets_hidden_ones(diversifier, films):
    histories = Histories.of_items([0, 1], [])
    taste = diversifier.taste(histories, films.items)
    genres = films.table["genres"].to_pylist()
    expected = [
        sum((name in genres[item]) / len(genres[item]) for item in (0, 1)) / 2 for name in sorted(GENRES)
    ]
    np.testing.assert_allclose(taste[0], expected, rtol=1e-6)
    assert not taste[1].any()


def test_catalogue_without_facts_keeps_the_order():
    bare = Catalog(pa.table({"item_id": [1, 2, 3], "title": ["a", "b", "c"]}))
    items = Vocabulary([3, 1, 2])
    made = Diversifier.of_catalog(items, bare)
    taste = made.taste(Histories.of_items([1]), items)
    assert made.rerank(np.array([[2, 0, 1]]), 3, np.float32([0.9]), taste).tolist() == [[2, 0, 1]]
