"""
`implicit` for `models.py`; that script starts this one under a Python that has the library.

    python benchmarks/_implicit_als.py FACTORS TOP_USERS TOP_ITEMS EVENTS_PER_USER

Reads the interactions as an npz from standard input, then one of `iteration` and `top` a line, and answers
each with its seconds of the processor.
"""

import os

os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))

import sys
import tempfile
import time

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse


def main() -> None:
    """Answer until the input ends."""
    factors, n_users, n_items, events = map(int, sys.argv[1:])
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        size = int(sys.stdin.buffer.readline())
        file.write(sys.stdin.buffer.read(size))
        file.flush()
        stored = np.load(file.name)
        indptr, indices, shape = stored["indptr"], stored["indices"], tuple(stored["shape"])
    pairs = sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)
    rng = np.random.default_rng(1)
    seen = sparse.csr_matrix(
        (
            np.ones(n_users * events, np.float32),
            (np.repeat(np.arange(n_users), events), rng.integers(0, n_items, n_users * events)),
        ),
        shape=(n_users, n_items),
    )
    ranker = AlternatingLeastSquares(factors=factors, iterations=1, num_threads=1, random_state=0)
    ranker.fit(seen, show_progress=False)
    for line in sys.stdin.buffer:
        if line.strip() == b"iteration":
            times = []
            for iterations in (1, 4):
                model = AlternatingLeastSquares(
                    factors=factors, iterations=iterations, num_threads=1, random_state=0
                )
                start = time.process_time()
                model.fit(pairs, show_progress=False)
                times.append(time.process_time() - start)
            seconds = (times[1] - times[0]) / 3
        else:
            start = time.process_time()
            for first in range(0, n_users, 1000):
                users = np.arange(first, min(first + 1000, n_users))
                ranker.recommend(users, seen[users], N=100, filter_already_liked_items=True)
            seconds = time.process_time() - start
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
