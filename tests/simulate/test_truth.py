"""The truth behind a simulation."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog, Interactions
from marquee.simulate import Audience, AudienceConfig, Truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    catalog = Catalog(
        pa.table(
            {
                "item_id": [1, 2, 3, 4],
                "title": ["a", "b", "c", "d"],
                "release_date": [
                    date(1994, 1, 1),
                    None,
                    date(1999, 5, 5),
                    date(2005, 1, 1),
                ],
                "genres": [["Western"], ["Western", "Crime"], None, ["Crime", "Crime"]],
            }
        )
    )
    return Audience(catalog, [4.0, 3.0, 2.0, 1.0], AudienceConfig(users=30)).truth()


def test_appeal_names_genres_and_decades_and_what_is_unknown(truth: Truth) -> None:
    assert truth.appeal.genres == ("Crime", "Western", "unknown")
    assert truth.appeal.eras == ("1990s", "2000s", "unknown")
    assert truth.appeal.counts().tolist() == [2, 2, 1, 2, 1, 1]


def test_tastes_are_shares(truth: Truth) -> None:
    assert truth.genre_tastes.sum(axis=1) == pytest.approx(1)
    assert truth.era_tastes.sum(axis=1) == pytest.approx(1)
    assert truth.exposure.sum(axis=1) == pytest.approx(1)
    assert truth.shelf.sum(axis=1) == pytest.approx(1)


def test_affinity_is_the_taste_that_a_film_serves(truth: Truth) -> None:
    genre, era = truth.genre_tastes, truth.era_tastes
    users = truth.users.ids
    both = 0.75 * (genre[:, 0] + genre[:, 1]) + 0.25 * era[:, 2]
    assert truth.affinity(users, [2])[:, 0] == pytest.approx(both, abs=1e-6)
    crime = 0.75 * genre[:, 0] + 0.25 * era[:, 1]
    assert truth.affinity(users)[:, 3] == pytest.approx(crime, abs=1e-6)


def test_ranking_leaves_out_the_films_of_the_user_only(truth: Truth) -> None:
    seen = Interactions.of([7, 7, 8], [1, 2, 3], [0, 0, 0])
    ranked = truth.expected_ranking([8, 7, 8], 4, exclude=seen)
    assert [sorted(row[row >= 0].tolist()) for row in ranked.item_ids] == [[1, 2, 4], [3, 4], [1, 2, 4]]
    assert np.isnan(ranked.scores[:, 3]).all()
    assert (np.diff(ranked.scores[:, :2], axis=1) <= 0).all()


def test_ids_outside_the_simulation_are_refused(truth: Truth) -> None:
    with pytest.raises(ValueError, match="user 31"):
        truth.affinity([1, 31])
    with pytest.raises(ValueError, match="item 9"):
        truth.affinity([1], [9])
    with pytest.raises(ValueError, match="k must"):
        truth.expected_ranking([1], 0)
