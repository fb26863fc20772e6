"""
Speed of the recommenders beside the bare linear algebra and their peers, on one core, in one run.

    python benchmarks/models.py [--peers-python PATH] [--large] [--seconds 10]

- EASE: its whole fit against the Gram product, factorisation and inverse alone.
- iALS: an iteration of 64 factors, and top-100 lists for many users over 20,000 items, against `implicit`,
  which runs under `--peers-python` (a Python that can import it); without it those rows are named as not
  measured.
- Growth: seconds and memory of fit and score for 10⁵ and 10⁶ interactions (`--large`: 10⁷), each in a process
  of its own, with the exponent of the growth.

Seconds are those of the processor; contenders take turns, and the fastest turn of each counts.
"""

import os

os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from marquee.data import Histories, Interactions, Vocabulary, top_k
from marquee.data.schema import CSR, Matrix
from marquee.models import Ease, Ials, ModelState, model_class
from marquee.models.base import SCORE_ROWS
from marquee.models.ease import EaseConfig
from marquee.models.ials import IalsConfig

FACTORS, TOP_USERS, TOP_ITEMS, EVENTS_PER_USER = 64, 10_000, 20_000, 50
GROWING = ("popularity", "item_knn", "ease", "ials", "markov")


def synthetic(n: int, seed: int = 0) -> Interactions:
    """
    Interactions of n/150 users with items whose popularity falls as a power law.

    The catalogue grows with the square root of n: 1,200 items at 10⁵, 3,800 at 10⁶, 12,000 at 10⁷.
    """
    rng = np.random.default_rng(seed)
    n_items = int(3.8 * np.sqrt(n))
    popularity = 1.0 / (10.0 + np.arange(n_items))
    activity = rng.lognormal(0.0, 1.0, max(n // 150, 10))
    users = rng.choice(len(activity), n, p=activity / activity.sum())
    items = rng.choice(n_items, n, p=popularity / popularity.sum())
    return Interactions.of(users, items, rng.integers(0, 3 * 365 * 86_400 * 10**6, n))


def binary_matrix(rows: Interactions) -> CSR:
    """(n_users, n_items) float32, 1 where there was an interaction."""
    users, items = Vocabulary(np.unique(rows.user_ids)), Vocabulary(np.unique(rows.item_ids))
    return rows.matrix(users, items)


def bare_ease(pairs: CSR) -> None:
    """Gram product, Cholesky factorisation and inverse: what no closed form can do without."""
    gram = (pairs.T @ pairs).toarray()
    gram[np.diag_indices(len(gram))] += 500.0
    factor, _ = lapack.spotrf(gram.T, lower=1, overwrite_a=1, clean=0)
    lapack.spotri(factor, lower=1, overwrite_c=1)


def compare_ease(seconds: float) -> None:
    """The fit of EASE as a multiple of its linear algebra."""
    rows = synthetic(10**6)
    pairs = binary_matrix(rows)
    contenders = {
        "bare": lambda: timed(lambda: bare_ease(pairs)),
        "ease": lambda: timed(lambda: Ease(EaseConfig(facts_weight=0.0)).fit(rows)),
    }
    best = take_turns(contenders, seconds)
    shape = "{:,} users × {:,} items, {:,} pairs".format(*pairs.shape, pairs.nnz)
    print(f"EASE fit ({shape}): {best['ease']:.2f} s, bare linear algebra {best['bare']:.2f} s")
    print(f"  ratio {best['ease'] / best['bare']:.2f} (to reach: ≤ 1.4)")


def compare_factors(seconds: float, peers_python: str | None) -> None:
    """An iteration of iALS, and its lists for many users, beside `implicit`."""
    rows = synthetic(10**6)
    rng = np.random.default_rng(1)
    asking = Interactions.of(
        np.repeat(np.arange(TOP_USERS), EVENTS_PER_USER),
        rng.integers(0, TOP_ITEMS, TOP_USERS * EVENTS_PER_USER),
        np.arange(TOP_USERS * EVENTS_PER_USER),
    )
    histories = asking.histories()
    ranker = Ials.from_state(random_factors(rng))
    users = rng.standard_normal((TOP_USERS, FACTORS), np.float32)
    items = ranker.state().arrays["factors"]
    seen = histories.matrix(ranker.items)
    contenders = {
        "iteration, marquee": lambda: ials_iteration(rows),
        "top-100, marquee": lambda: timed(lambda: lists_of_factors(users, items, seen)),
        "top-100 with fold-in, marquee": lambda: timed(lambda: ranker.recommend(histories, 100)),
    }
    child = Peer(peers_python, rows) if peers_python else None
    if child is not None:
        contenders["iteration, implicit"] = lambda: child.ask("iteration")
        contenders["top-100, implicit"] = lambda: child.ask("top")
    best = take_turns(contenders, seconds)
    print(f"iALS, {FACTORS} factors, 10⁶ interactions: {best['iteration, marquee']:.3f} s per iteration")
    rate = TOP_USERS / best["top-100, marquee"]
    folded = TOP_USERS / best["top-100 with fold-in, marquee"]
    print(f"top-100 of {TOP_ITEMS:,} items: {rate:,.0f} users/s; {folded:,.0f} with fold-in of histories")
    if child is None:
        print("  not measured: implicit (give --peers-python)")
        return
    child.close()
    print(f"  implicit: {best['iteration, implicit']:.3f} s per iteration")
    print(f"  ratio {best['iteration, marquee'] / best['iteration, implicit']:.2f} (to reach: ≤ 1)")
    peer_rate = TOP_USERS / best["top-100, implicit"]
    print(f"  implicit: {peer_rate:,.0f} users/s")
    print(f"  ratio {rate / peer_rate:.2f} (to reach: ≥ 2)")


def random_factors(rng: np.random.Generator) -> ModelState:
    """An iALS of any factors: lists take as long whatever they are."""
    arrays: dict[str, NDArray[Any]] = {
        "item_ids": np.arange(TOP_ITEMS),
        "item_counts": np.ones(TOP_ITEMS, np.int64),
        "popularity": np.ones(TOP_ITEMS, np.float32),
        "factors": rng.standard_normal((TOP_ITEMS, FACTORS), np.float32),
    }
    return ModelState(arrays, {"config": IalsConfig(factors=FACTORS).to_dict()})


def lists_of_factors(users: Matrix, items: Matrix, seen: CSR) -> None:
    """Top-100 lists from factors at hand, as `implicit` makes them, without what was seen."""
    for start in range(0, len(users), SCORE_ROWS):
        scores = users[start : start + SCORE_ROWS] @ items.T
        block = seen[start : start + SCORE_ROWS]
        scores[np.repeat(np.arange(len(scores)), np.diff(block.indptr)), block.indices] = -np.inf
        top_k(scores, 100)


def ials_iteration(rows: Interactions) -> float:
    """Seconds of one iteration, without what every fit pays once."""
    times = []
    for iterations in (1, 4):
        model = Ials(IalsConfig(factors=FACTORS, iterations=iterations))
        times.append(timed(lambda model=model: model.fit(rows)))  # type: ignore[misc]
    return max((times[1] - times[0]) / 3, 1e-9)


class Peer:
    """`implicit` under another Python; it measures itself and answers with its seconds."""

    def __init__(self, python: str, rows: Interactions) -> None:
        pairs = binary_matrix(rows)
        script = str(Path(__file__).with_name("_implicit_als.py"))
        sizes = (FACTORS, TOP_USERS, TOP_ITEMS, EVENTS_PER_USER)
        self._process = subprocess.Popen(
            [python, script, *map(str, sizes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        packed = io.BytesIO()
        np.savez(packed, indptr=pairs.indptr, indices=pairs.indices, shape=np.array(pairs.shape))
        self._process.stdin.write(f"{len(packed.getvalue())}\n".encode() + packed.getvalue())
        self._process.stdin.flush()

    def ask(self, what: str) -> float:
        """Seconds of `iteration` or `top`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n".encode())
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def grow(sizes: list[int]) -> None:
    """Seconds and memory of each model as the data grow."""
    print(f"{'model':<12}{'interactions':>14}{'fit s':>9}{'score ms/user':>15}{'peak MiB':>10}")
    for name in GROWING:
        fits = []
        for n in sizes:
            answer = subprocess.run(
                [sys.executable, __file__, "--child", name, str(n)],
                check=True,
                capture_output=True,
                text=True,
            )
            seen = json.loads(answer.stdout)
            fits.append(seen["fit_seconds"])
            print(
                f"{name:<12}{n:>14,}{seen['fit_seconds']:>9.2f}"
                f"{seen['score_ms']:>15.3f}{seen['peak_mib']:>10,.0f}"
            )
        exponent = np.polyfit(np.log(sizes), np.log(fits), 1)[0]
        print(f"{'':<12}fit grows as interactions^{exponent:.2f}")


def child(name: str, n: int) -> None:
    """Measure one model at one size, in this process alone."""
    rows = synthetic(n)
    histories = rows.take(rows.user_ids < 500).histories()
    model = model_class(name)()
    fit_seconds = timed(lambda: model.fit(rows))
    score_seconds = timed(lambda: score_in_blocks(model.score, histories))
    print(
        json.dumps(
            {
                "fit_seconds": fit_seconds,
                "score_ms": 1000 * score_seconds / len(histories),
                "peak_mib": peak_mib(),
            }
        )
    )


def score_in_blocks(score: Callable[[Histories], object], histories: Histories) -> None:
    """Score as `recommend` does."""
    for start in range(0, len(histories), SCORE_ROWS):
        score(histories.take(slice(start, start + SCORE_ROWS)))


def peak_mib() -> float:
    """The most memory that this program has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # where there is one: the figure below counts the parent too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(call: Callable[[], object]) -> float:
    """Seconds of the processor in a call: on one thread, and unmoved by what else the machine does."""
    start = time.process_time()
    call()
    return time.process_time() - start


def take_turns(contenders: dict[str, Callable[[], float]], seconds: float) -> dict[str, float]:
    """The fastest of several turns of each; at least two turns."""
    best = dict.fromkeys(contenders, np.inf)
    end, turns = time.perf_counter() + seconds, 0
    while turns < 2 or time.perf_counter() < end:
        for name, contender in contenders.items():
            best[name] = min(best[name], contender())
        turns += 1
    return best


def main() -> None:
    """Run all comparisons and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers-python", help="a Python that can import implicit")
    parser.add_argument("--large", action="store_true", help="grow to 10⁷ interactions")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each comparison")
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    compare_ease(options.seconds)
    compare_factors(options.seconds, options.peers_python)
    grow([10**5, 10**6, 10**7] if options.large else [10**5, 10**6])


if __name__ == "__main__":
    main()
