"""What virtual visitors do with a list, without an API."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog
from marquee.simulate import Audience, AudienceConfig, LiveConfig, World
from marquee.simulate.live import LiveReport, _visitors, check_address
from marquee.simulate.truth import runtime_seconds

N_ITEMS = 40
CONFIG = LiveConfig(users=20)


@pytest.fixture(scope="module")
def world():
    genres = ["Drama", "Comedy", "Action", "Horror"]
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(N_ITEMS),
                "title": [f"Film {i}" for i in range(N_ITEMS)],
                "genres": [[genres[i % 4]] for i in range(N_ITEMS)],
                "runtime_minutes": pa.array(80 + np.arange(N_ITEMS), pa.int32()),
            }
        )
    )
    audience = AudienceConfig(users=20, seed=1)
    truth = Audience(catalog, np.linspace(1, 100, N_ITEMS), audience).truth()
    return World(truth, audience, runtime_seconds(catalog))


def test_films_are_chosen_as_often_as_the_truth_says(world):
    affinity = np.array([0.6, 0.6, 0.2], dtype=np.float32)
    truth = world.truth
    weights = np.exp(truth.choice_sharpness * affinity - truth.position_bias * np.log1p([0, 1, 2]))
    weights = np.append(weights, np.exp(truth.choice_sharpness * CONFIG.outside))
    random = np.random.default_rng(0)
    chosen = Counter(world.choose(affinity, CONFIG, random) for _ in range(20_000))
    counts = np.array([chosen[0], chosen[1], chosen[2], chosen[None]])
    expected = 20_000 * weights / weights.sum()
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())
    assert chosen[0] > chosen[1] > chosen[2]


def test_same_random_state_gives_the_same_visit(world):
    affinity = world.affinity(3, [1, 2, 3])
    first, second = (
        (
            world.choose(affinity, CONFIG, random),
            world.watch(2, 0.4, CONFIG, random),
            world.find_elsewhere(3, random),
        )
        for random in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == second


def test_affinity_is_that_of_the_truth_and_nothing_for_unknown_films(world):
    found = world.affinity(2, [7, 10_000])
    assert found[0] == world.truth.affinity([2], [7])[0, 0]
    assert found[1] == 0


def test_watching_stays_within_the_film_and_ratings_within_the_scale(world):
    random = np.random.default_rng(2)
    config = LiveConfig(rates=1.0)
    for affinity in (0.0, 0.5, 1.0):
        for _ in range(50):
            watch, rate = world.watch(5, affinity, config, random)
            assert 0 <= watch["watch_seconds"] <= 85 * 60
            assert 0 <= rate["rating"] <= 10
            assert rate["rating"] * 2 == round(rate["rating"] * 2)


def test_films_found_elsewhere_are_to_the_taste(world):
    random = np.random.default_rng(3)
    found = [world.find_elsewhere(4, random) for _ in range(300)]
    assert world.affinity(4, found).mean() > world.truth.affinity([4]).mean() + 0.1


def test_visitors_come_in_turn_or_as_chance_has_it():
    in_turn = _visitors(LiveConfig(users=20, rate=1, seconds=40))
    assert sorted(in_turn[:20]) == sorted(in_turn[20:]) == list(range(20))
    by_chance = _visitors(LiveConfig(users=20, rate=1, seconds=40, in_turn=False))
    assert by_chance == _visitors(LiveConfig(users=20, rate=1, seconds=40, in_turn=False))
    assert len(by_chance) == 40
    assert sorted(by_chance[:20]) != list(range(20))


def test_report_of_nothing_is_plain():
    assert LiveReport().as_json()["click_rate"] is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "http://localhost:8000", "http://[::1]:8000"])
def test_own_machine_may_be_visited(url):
    assert check_address(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://example.org", "http://10.0.0.3:8000", "http://127.0.0.1.example.org"]
)
def test_other_machine_may_be_visited_only_on_purpose(url):
    with pytest.raises(ValueError, match="allow-remote"):
        check_address(url)
    assert check_address(url, allow_remote=True) == url


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match="address"):
        check_address(url, allow_remote=True)


@pytest.mark.parametrize("name", ["users", "rate", "seconds", "k", "concurrency"])
def test_visits_that_cannot_be_are_refused(name):
    with pytest.raises(ValueError, match=name):
        LiveConfig(**{name: 0})
