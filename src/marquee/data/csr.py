"""Sparse matrices over arrays that are kept elsewhere."""

from typing import Any

from numpy.typing import NDArray

from marquee.data.schema import CSR

__all__ = ["csr_over"]


def csr_over(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]
) -> CSR:
    """
    A matrix over arrays as they are, read-only maps among them.

    SciPy's constructor copies arrays that are slices of one more than twice as long, as all of a mapped file
    are. Of those given, nothing is checked but what belongs together.

    Args:
        data: (nnz,) values.
        indices: (nnz,) columns.
        indptr: (rows + 1,) offsets of the rows, of the type of the indices.
        shape: rows and columns.

    Raises:
        ValueError: lengths or types do not fit.
    """
    if len(indptr) != shape[0] + 1 or len(data) != len(indices) or indptr.dtype != indices.dtype:
        raise ValueError(
            f"{len(data)} values, {len(indices)} columns ({indices.dtype}) and {len(indptr)} offsets "
            f"({indptr.dtype}) are no matrix of shape {shape}"
        )
    made = CSR(shape, dtype=data.dtype)
    made.data, made.indices, made.indptr = data, indices, indptr
    return made
