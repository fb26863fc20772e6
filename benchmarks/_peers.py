"""
The peers of `models.py`; that script starts this one under a Python that has them.

    python benchmarks/_peers.py DIRECTORY

Reads the arrays in the directory, then one job a line from standard input, and answers each with its seconds
of the processor, or with `missing` and why.
"""

import os

os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))
os.environ["NUMBA_NUM_THREADS"] = os.environ["LK_NUM_THREADS"] = "1"

import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

FOLDER = Path(sys.argv[1])


@cache
def pairs() -> sparse.csr_matrix:
    """(n_users, n_items) binary."""
    stored = np.load(FOLDER / "pairs.npz")
    data = np.ones(len(stored["indices"]), np.float32)
    return sparse.csr_matrix((data, stored["indices"], stored["indptr"]), shape=tuple(stored["shape"]))


@cache
def frame() -> Any:
    """The pairs as a table with the columns that both LensKit and RecTools know."""
    table = imported("pandas", "DataFrame")
    cells = pairs().tocoo()
    return table({"user_id": cells.row, "item_id": cells.col, "weight": 1.0, "datetime": "2020-01-01"})


def als_iteration(factors: int = 64) -> float:
    """One iteration, without what every fit pays once."""
    als = imported("implicit.als", "AlternatingLeastSquares")
    times = []
    for iterations in (1, 4):
        model = als(factors=factors, iterations=iterations, num_threads=1, random_state=0)
        times.append(timed(partial(model.fit, pairs(), show_progress=False)))
    return (times[1] - times[0]) / 3


def als_top(name: str) -> float:
    """Top-100 lists of stored factors, without what was seen."""
    als = imported("implicit.als", "AlternatingLeastSquares")
    stored = np.load(FOLDER / f"{name}.npz")
    users, items = stored["users"], stored["items"]
    shape = (len(users), len(items))
    data = np.ones(len(stored["indices"]), np.float32)
    seen = sparse.csr_matrix((data, stored["indices"], stored["indptr"]), shape=shape)
    model = als(factors=users.shape[1], num_threads=1)
    model.user_factors, model.item_factors = users, items

    def lists() -> None:
        for first in range(0, len(users), 1000):
            who = np.arange(first, min(first + 1000, len(users)))
            model.recommend(who, seen[who], N=100, filter_already_liked_items=True)

    return timed(lists)


@cache
def implicit_knn() -> Any:
    """BM25 similarities of implicit."""
    bm25 = imported("implicit.nearest_neighbours", "BM25Recommender")
    model = bm25(K=500, num_threads=1)
    model.fit(pairs(), show_progress=False)
    return model


def knn_fit() -> float:
    """Fit of implicit's BM25 neighbours."""
    implicit_knn.cache_clear()
    return timed(implicit_knn)


def knn_top(n: int = 2000) -> float:
    """Top-100 lists of the first users by implicit's BM25 neighbours."""
    model, who = implicit_knn(), np.arange(n)
    return timed(lambda: model.recommend(who, pairs()[:n], N=100, filter_already_liked_items=True))


@cache
def rectools_dataset() -> Any:
    """The pairs as RecTools wants them."""
    dataset = imported("rectools.dataset", "Dataset")
    return dataset.construct(frame())


def rectools_ease() -> float:
    """Fit of RecTools' EASE."""
    ease = imported("rectools.models", "EASEModel")
    dataset = rectools_dataset()
    return timed(lambda: ease(regularization=500.0).fit(dataset))


def rectools_popularity() -> float:
    """Fit of RecTools' popularity."""
    popular = imported("rectools.models", "PopularModel")
    dataset = rectools_dataset()
    return timed(lambda: popular().fit(dataset))


@cache
def lenskit_dataset() -> Any:
    """The pairs as LensKit wants them."""
    read = imported("lenskit.data", "from_interactions_df")
    return read(frame()[["user_id", "item_id"]])


def lenskit_ease() -> float:
    """Fit of LensKit's EASE."""
    ease = imported("lenskit.knn", "EASEScorer")
    dataset = lenskit_dataset()
    return timed(lambda: ease(regularization=500.0).train(dataset))


def lenskit_knn() -> float:
    """Fit of LensKit's item neighbours."""
    knn = imported("lenskit.knn", "ItemKNNScorer")
    dataset = lenskit_dataset()
    return timed(lambda: knn(max_nbrs=20, save_nbrs=500, feedback="implicit").train(dataset))


JOBS: dict[str, Callable[[], float]] = {
    "implicit als iteration": als_iteration,
    "implicit als trained": lambda: als_top("trained"),
    "implicit als random": lambda: als_top("random"),
    "implicit knn fit": knn_fit,
    "implicit knn top": knn_top,
    "rectools ease": rectools_ease,
    "rectools popularity": rectools_popularity,
    "lenskit ease": lenskit_ease,
    "lenskit knn": lenskit_knn,
}


def imported(module: str, name: str) -> Any:
    """An object of a peer, found at run time: this repository's own environment has none of them."""
    return getattr(import_module(module), name)


def timed(call: Callable[[], object]) -> float:
    """Seconds of the processor in a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        try:
            answer = repr(JOBS[line.strip()]())
        except ImportError as error:
            answer = f"missing {error}"
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
