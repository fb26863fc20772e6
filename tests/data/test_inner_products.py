import numpy as np
import pytest

from marquee.data import top_k
from marquee.data.inner_products import InnerProducts
from marquee.data.schema import Index, Matrix


def skewed(rng: np.random.Generator, n: int, d: int = 16) -> Matrix:
    """Vectors whose length falls as in fitted models, in no order."""
    lengths = 1.0 / (1.0 + np.arange(n)) ** 0.7
    vectors = rng.standard_normal((n, d)) + 1.0
    return (rng.permutation(lengths)[:, None] * vectors).astype(np.float32)


def exhaustive(users: Matrix, items: Matrix, k: int, hidden: tuple[Index, Index]) -> tuple[Index, Matrix]:
    scores = users @ items.T
    scores[hidden] = -np.inf
    return top_k(scores, k)


@pytest.mark.parametrize("shape", ["skewed", "even"])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_lists_equal_those_of_all_products(shape: str, k: int) -> None:
    rng = np.random.default_rng(k)
    users = rng.standard_normal((600, 16)).astype(np.float32) + 1.0
    items = skewed(rng, 5000) if shape == "skewed" else rng.standard_normal((5000, 16)).astype(np.float32)
    hidden = (np.sort(rng.integers(0, 600, 9000)), rng.integers(0, 5000, 9000))
    found, values = InnerProducts(items).top_k(users, k, hidden)
    expected, best = exhaustive(users, items, k, hidden)
    # Sums in another order differ in the last digits, which may swap neighbours.
    np.testing.assert_allclose(values, best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.einsum("ud,ukd->uk", users, items[found]), best, rtol=1e-4, atol=1e-5)
    assert (found == expected).mean() > 0.99
    cells = set(zip(*(side.tolist() for side in hidden), strict=True))
    assert not any((row, item) in cells for row, items_ in enumerate(found.tolist()) for item in items_)


def test_equal_products_go_to_the_lower_item() -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(-1, 2, (300, 4)).astype(np.float32)
    items = rng.integers(-2, 3, (3000, 4)).astype(np.float32)
    found, values = InnerProducts(items).top_k(users, 20)
    expected, best = exhaustive(users, items, 20, (np.zeros(0, np.int64),) * 2)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(values, best)


def test_users_without_taste_get_the_first_items() -> None:
    items = skewed(np.random.default_rng(0), 3000)
    found, values = InnerProducts(items).top_k(np.zeros((2, 16), np.float32), 3)
    np.testing.assert_array_equal(found, [[0, 1, 2]] * 2)
    np.testing.assert_array_equal(values, np.zeros((2, 3)))


def test_lists_longer_than_what_is_left_are_padded() -> None:
    items = skewed(np.random.default_rng(0), 4)
    hidden = (np.array([0, 0, 1]), np.array([1, 2, 3]))
    found, values = InnerProducts(items).top_k(np.ones((2, 16), np.float32), 6, hidden)
    assert [sorted(row[row >= 0].tolist()) for row in found] == [[0, 3], [0, 1, 2]]
    np.testing.assert_array_equal(np.isnan(values), found < 0)


def test_no_items_and_no_users_give_empty_lists() -> None:
    found, values = InnerProducts(np.zeros((0, 4), np.float32)).top_k(np.ones((2, 4), np.float32), 3)
    assert (found == -1).all()
    assert np.isnan(values).all()
    assert InnerProducts(np.ones((3, 4), np.float32)).top_k(np.zeros((0, 4), np.float32), 3)[0].shape == (
        0,
        3,
    )
