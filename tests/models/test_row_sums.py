import numpy as np
import pytest

from marquee.data.schema import CSR
from marquee.models.row_sums import CELLS, RowSums, narrow


def random_csr(rng, shape, density):
    """A matrix of positive values; `density` may differ by row."""
    full = rng.random(shape, dtype=np.float32) + np.float32(0.1)
    return CSR(np.where(rng.random(shape) < density, full, np.float32(0.0)))


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9, np.linspace(0.9, 0.0, 60)[:, None]])
def test_sums_equal_the_product(density):
    rng = np.random.default_rng(0)
    matrix = narrow(random_csr(rng, (60, 60), density))
    H = random_csr(rng, (20, 60), 0.2)
    np.testing.assert_allclose(RowSums(matrix)(H), (H @ matrix).toarray(), rtol=1e-5)


def test_history_alone_sums_to_the_bit_as_among_others_over_many_blocks():
    rng = np.random.default_rng(1)
    matrix = random_csr(rng, (900, 900), np.linspace(0.9, 0.1, 900)[:, None])
    H = random_csr(rng, (40, 900), 0.1)
    assert (H @ np.diff(matrix.indptr)).sum() > 2 * CELLS
    sums = RowSums(matrix)
    together = sums(H)
    for row in range(H.shape[0]):
        assert np.array_equal(sums(CSR(H[row : row + 1]))[0], together[row])


def test_histories_without_events_sum_to_nothing():
    matrix = random_csr(np.random.default_rng(2), (30, 30), 0.3)
    assert not RowSums(matrix)(CSR(np.zeros((3, 30), np.float32))).any()
    assert RowSums(matrix)(CSR(np.zeros((0, 30), np.float32))).shape == (0, 30)


def test_narrow_matrix_is_the_same_with_smaller_indices():
    matrix = random_csr(np.random.default_rng(3), (30, 30), 0.3)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    narrowed = narrow(matrix)
    assert narrowed.indices.dtype == narrowed.indptr.dtype == np.int32
    assert np.array_equal(narrowed.toarray(), matrix.toarray())
