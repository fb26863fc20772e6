"""What exposure costs."""

import numpy as np
import pytest

from marquee.recommend.candidates import Candidates
from marquee.recommend.exposure import exposure_penalty

N_ITEMS, N_LISTS = 30, 20


@pytest.fixture
def lists():
    """Everybody is offered the first 15 items, in one order."""
    items = np.tile(np.arange(15), N_LISTS)
    none = np.zeros((len(items), 1), np.float32)
    candidates = Candidates(np.arange(N_LISTS + 1) * 15, items, none, none > 0)
    return [(candidates, np.tile(np.arange(15, 0, -1, dtype=np.float32), N_LISTS))]


def test_only_listed_items_pay_and_the_strongest_most(lists) -> None:
    penalty = exposure_penalty(lists, N_ITEMS, 1.5)
    assert penalty.shape == (N_ITEMS,)
    assert penalty.dtype == np.float32
    assert (penalty[:5] > 0).all()
    assert penalty[0] == penalty.max()
    assert not penalty[15:].any()


def test_no_item_pays_more_than_being_in_all_lists(lists) -> None:
    deviation = np.std(np.arange(15))
    assert exposure_penalty(lists, N_ITEMS, 1.5).max() <= 1.5 * deviation


@pytest.mark.parametrize("exposure", [0.0, 1.5])
def test_without_cost_or_lists_nothing_is_paid(lists, exposure) -> None:
    assert not exposure_penalty(lists if not exposure else [], N_ITEMS, exposure).any()
