"""Behavioural checks: real models pass, each broken one fails the check that is about it."""

import numpy as np
import pytest

from marquee.data import Catalog, Histories, RankedItems
from marquee.evaluation.checks import check_behaviour
from marquee.models import Ease, ItemKnn, Popularity
from marquee.testing import planted_tastes

SOUND, BACK, WATCH, STRANGERS = range(4)


@pytest.fixture(scope="module")
def tastes():
    return planted_tastes(n_users=120)


@pytest.fixture(scope="module")
def histories(tastes) -> Histories:
    return tastes.interactions.histories()


def failed(model, tastes, histories) -> set[int]:
    checks = check_behaviour(model, tastes.catalog, histories)
    assert all(check.found for check in checks)
    return {number for number, check in enumerate(checks) if not check.passed}


@pytest.mark.parametrize("kind", [Ease, ItemKnn, Popularity])
def test_real_model_passes_every_check(kind, tastes, histories):
    assert failed(kind().fit(tastes.interactions, tastes.catalog), tastes, histories) == set()


class NotFinite(Popularity):
    def score(self, histories):
        scores = np.array(super().score(histories))
        scores[:, 0] = np.nan
        return scores


class ShowsSeen(Popularity):
    """Forgets what the user has watched."""

    def recommend(self, histories, k=10, *, exclude_history=True) -> RankedItems:
        return super().recommend(histories, k, exclude_history=False)


class WatchingIsDisliking(Ease):
    """The longer a film was watched, the less of its genre."""

    def score(self, histories):
        scores = -np.array(super().score(histories))
        seconds = np.bincount(
            histories.rows, np.nan_to_num(histories.watch_seconds), minlength=len(histories)
        )
        return (scores * (1.0 + seconds[:, None])).astype(np.float32)


class OrderMatters(Popularity):
    """A row depends on its place in the batch."""

    def score(self, histories):
        scores = np.array(super().score(histories))
        return np.stack([np.roll(row, place % 7) for place, row in enumerate(scores)])


class Breaks(Popularity):
    """Cannot answer somebody of whom nothing is known."""

    def score(self, histories):
        if (histories.lengths == 0).any():
            raise IndexError("no events")
        return super().score(histories)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (NotFinite, SOUND),
        (ShowsSeen, BACK),
        (WatchingIsDisliking, WATCH),
        (OrderMatters, STRANGERS),
        (Breaks, STRANGERS),
    ],
)
def test_broken_model_fails_the_check_about_it(kind, check, tastes, histories):
    assert check in failed(kind().fit(tastes.interactions, tastes.catalog), tastes, histories)


def test_error_of_a_model_is_a_finding(tastes, histories):
    model = Breaks().fit(tastes.interactions, tastes.catalog)
    found = check_behaviour(model, tastes.catalog, histories)[STRANGERS]
    assert found.found == "it raised IndexError: no events"


def test_catalogue_without_genres_has_nothing_to_say_about_watch_time(tastes, histories):
    plain = Catalog(tastes.catalog.table.select(["item_id", "title"]))
    found = check_behaviour(Popularity().fit(tastes.interactions), plain, histories)[WATCH]
    assert found.passed
    assert "known" in found.found
