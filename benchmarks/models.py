"""
Speed of the recommenders beside the bare linear algebra and their peers, on one core, in one run.

    python benchmarks/models.py [--peers-python .venv-peers/bin/python] [--large] [--seconds 10]

- EASE: its whole fit against the Gram product, factorisation and inverse alone.
- Lists: top-100 of 20,000 items for 100,000 users from 64 factors, against `implicit`: fitted factors, and
  random ones, of which nothing can be left out.
- Fits of iALS, ItemKNN, EASE and popularity against implicit, LensKit and RecTools on the same matrix. The
  peers run under `--peers-python`; those that cannot be imported there are named as not measured.
- Growth: seconds and memory of fit and score for 10⁵ and 10⁶ interactions (`--large`: 10⁷), each in a process
  of its own, with the exponent of the growth.
- `--large`: the two-stage recommender on 10⁵, 10⁶, 10⁷ and 25,000,000 interactions, and its lists for
  everyone, on two cores.

Seconds are those of the processor (with `--large` also of the clock). Contenders take turns, and a ratio is
the median of the ratios of the turns.
"""

import os
import sys

if "--cores" not in sys.argv:
    os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))

import argparse
import functools
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import lapack

import _synthetic as synthetic
from marquee.data import Histories, Interactions, Vocabulary
from marquee.data.inner_products import InnerProducts
from marquee.data.schema import CSR, Matrix
from marquee.models import Ease, Ials, ItemKnn, Popularity, model_class
from marquee.models.base import SCORE_ROWS
from marquee.models.ease import EaseConfig
from marquee.models.ials import IalsConfig
from marquee.models.item_knn import ItemKnnConfig

FACTORS, TOP_USERS, TOP_ITEMS, RANDOM_USERS, KNN_USERS = 64, 100_000, 20_000, 20_000, 2_000
MATRIX = {"n": 1_000_000, "n_items": 4_000}
LARGE = {"n": 25_000_000, "n_users": 160_000, "n_items": 60_000}
GROWING = ("popularity", "item_knn", "ease", "ials", "markov")
INSTALL = (
    "python3 -m venv .venv-peers && .venv/bin/uv pip sync -p .venv-peers/bin/python --require-hashes"
    " requirements-peers.lock\n    (and a CPU build of torch for LensKit: .venv-peers/bin/pip install torch)"
)


@dataclass(frozen=True)
class Row:
    """One comparison: what, who is the baseline, both calls (each returns its seconds), the goal."""

    what: str
    baseline: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    users: int = 0
    goal: str = ""


class MissingError(Exception):
    """A peer cannot be imported."""


def main() -> None:
    """Run all comparisons and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--peers-python", default=".venv-peers/bin/python", help="a Python that has the peers"
    )
    parser.add_argument("--large", action="store_true", help="grow to 10⁷; two stages on 25,000,000")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each comparison")
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure_child(options.child[0], int(options.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.peers_python, options.seconds)
    grow([10**5, 10**6, 10**7] if options.large else [10**5, 10**6])
    if options.large:
        large()


def compare(folder: Path, peers_python: str, seconds: float) -> None:
    """The table of ratios."""
    rows = synthetic.interactions(**MATRIX)
    items = Vocabulary.by_count(rows.item_ids)
    pairs = rows.matrix(Vocabulary(np.unique(rows.user_ids)), items)
    np.savez(folder / "pairs.npz", indptr=pairs.indptr, indices=pairs.indices, shape=np.array(pairs.shape))
    peers = Peers(peers_python, folder)
    table = [
        Row("EASE fit", "bare linear algebra", ease_fit(rows), timer(lambda: bare_ease(pairs)), goal="≤ 1.4"),
        Row("EASE fit", "RecTools", ease_fit(rows), peers.job("rectools ease")),
        Row("EASE fit", "LensKit", ease_fit(rows), peers.job("lenskit ease")),
        *lists_of_factors(folder, peers),
        Row(
            "iALS iteration",
            "implicit",
            lambda: ials_iteration(rows),
            peers.job("implicit als iteration"),
            goal="≤ 1",
        ),
        *neighbours(rows, peers),
        Row(
            "popularity fit",
            "RecTools",
            timer(lambda: Popularity().fit(rows)),
            peers.job("rectools popularity"),
        ),
    ]
    print("matrix: {:,} users × {:,} items, {:,} pairs; one core".format(*pairs.shape, pairs.nnz))
    print(f"{'':<36}{'marquee':>12}  {'baseline':<20}{'':>12}{'ratio':>9}  to reach")
    missing = []
    for row in table:
        try:
            print_row(row, *take_turns(row, seconds))
        except MissingError as error:
            missing.append(f"not measured: {row.what} of {row.baseline} ({error})")
    peers.close()
    if missing:
        print("\n".join(missing), f"  to measure them: {INSTALL}", sep="\n")


def print_row(row: Row, ours: float, theirs: float, ratio: float) -> None:
    """Seconds and their ratio, or for lists users per second and theirs."""
    if row.users:
        figures = f"{row.users / ours:,.0f}/s", f"{row.users / theirs:,.0f}/s", 1.0 / ratio
    else:
        figures = f"{ours:.3f} s", f"{theirs:.3f} s", ratio
    print(
        f"{row.what:<36}{figures[0]:>12}  {row.baseline:<20}{figures[1]:>12}{figures[2]:>9.2f}  {row.goal}",
        flush=True,
    )


def take_turns(row: Row, seconds: float) -> tuple[float, float, float]:
    """Medians of both contenders and of the ratios of their turns, of which there are at least three."""
    turns: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(turns) < 3 or time.perf_counter() < end:
        theirs = row.theirs()
        turns.append((row.ours(), theirs))
    ours, theirs = np.median(turns, axis=0)
    return float(ours), float(theirs), float(np.median([a / b for a, b in turns]))


def timer(call: Callable[[], object]) -> Callable[[], float]:
    """The same call, returning its seconds of the processor: unmoved by what else the machine does."""

    def timed() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return timed


def ease_fit(rows: Interactions) -> Callable[[], float]:
    """A fit of EASE, without facts as its peers."""
    return timer(lambda: Ease(EaseConfig(facts_weight=0.0)).fit(rows))


def bare_ease(pairs: CSR) -> None:
    """Gram product, Cholesky factorisation and inverse: what no closed form can do without."""
    gram = (pairs.T @ pairs).toarray()
    gram[np.diag_indices(len(gram))] += 500.0
    factor, _ = lapack.spotrf(gram.T, lower=1, overwrite_a=1, clean=0)
    lapack.spotri(factor, lower=1, overwrite_c=1)


def ials_iteration(rows: Interactions) -> float:
    """Seconds of one iteration, without what every fit pays once."""
    times = []
    for iterations in (1, 4):
        model = Ials(IalsConfig(factors=FACTORS, iterations=iterations))
        times.append(timer(functools.partial(model.fit, rows))())
    return max((times[1] - times[0]) / 3, 1e-9)


def lists_of_factors(folder: Path, peers: "Peers") -> list[Row]:
    """Top-100 lists from the same factors, without what was seen: as fitted, and random."""
    rows = synthetic.interactions(2_000_000, TOP_USERS, TOP_ITEMS)
    model = Ials(IalsConfig(factors=FACTORS, iterations=5)).fit(rows)
    histories = rows.histories()
    seen = histories.matrix(model.items)
    blocks = range(0, len(histories), SCORE_ROWS)
    users = np.concatenate([model.fold_in(CSR(seen[b : b + SCORE_ROWS])) for b in blocks])
    rng = np.random.default_rng(1)
    cases = {
        "trained": (users, model.state().arrays["factors"], seen),
        "random": (
            rng.standard_normal((RANDOM_USERS, FACTORS), np.float32),
            rng.standard_normal((len(model.items), FACTORS), np.float32),
            CSR(seen[:RANDOM_USERS]),
        ),
    }
    made = []
    for name, (left, right, cells) in cases.items():
        np.savez(folder / f"{name}.npz", users=left, items=right, indptr=cells.indptr, indices=cells.indices)
        ours = timer(functools.partial(search, left, right, cells))
        goal = "≥ 2" if name == "trained" else ""
        what = f"top-100 of {len(right):,}, {name} factors"
        made.append(Row(what, "implicit", ours, peers.job(f"implicit als {name}"), len(left), goal))
    return made


def search(users: Matrix, items: Matrix, seen: CSR) -> None:
    """The lists of all users."""
    rows = np.repeat(np.arange(len(users)), np.diff(seen.indptr))
    InnerProducts(items).top_k(users, 100, (rows, seen.indices.astype(np.int64)))


def neighbours(rows: Interactions, peers: "Peers") -> list[Row]:
    """Fit and lists of the nearest neighbours."""
    config = ItemKnnConfig(neighbours=500)
    fit = timer(lambda: ItemKnn(config).fit(rows))
    model = ItemKnn(config).fit(rows)
    histories = rows.histories().take(slice(0, KNN_USERS))
    lists = timer(lambda: model.recommend(histories, 100))
    return [
        Row("ItemKNN fit", "implicit (BM25)", fit, peers.job("implicit knn fit")),
        Row("ItemKNN fit", "LensKit", fit, peers.job("lenskit knn")),
        Row("ItemKNN top-100", "implicit (BM25)", lists, peers.job("implicit knn top"), KNN_USERS),
    ]


class Peers:
    """The peers under another Python; they measure themselves and answer with their seconds."""

    def __init__(self, python: str, folder: Path) -> None:
        self._process: subprocess.Popen[str] | None = None
        if Path(python).exists():
            script = str(Path(__file__).with_name("_peers.py"))
            self._process = subprocess.Popen(
                [python, script, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self._python = python

    def job(self, name: str) -> Callable[[], float]:
        """What asks for the seconds of a job."""
        return lambda: self._ask(name)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _ask(self, name: str) -> float:
        if self._process is None:
            raise MissingError(f"no {self._python}")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer or answer.startswith("missing"):
            raise MissingError(answer.removeprefix("missing ") or "the process of the peers has died")
        return float(answer)


def grow(sizes: list[int]) -> None:
    """Seconds and memory of each model as the data grow."""
    print(f"\n{'model':<12}{'interactions':>14}{'fit s':>9}{'score ms/user':>15}{'peak MiB':>10}")
    for name in GROWING:
        counts, fits = [], []
        for n in sizes:
            seen = run_child(name, n, 1)
            counts.append(seen["interactions"])
            fits.append(seen["fit_seconds"])
            print(
                f"{name:<12}{seen['interactions']:>14,}{seen['fit_seconds']:>9.2f}"
                f"{seen['score_ms']:>15.3f}{seen['peak_mib']:>10,.0f}",
                flush=True,
            )
        exponent = np.polyfit(np.log(counts), np.log(fits), 1)[0]
        print(f"{'':<12}fit grows as interactions^{exponent:.2f}")


def large() -> None:
    """The two-stage recommender up to data as large as the largest public ratings, on two cores."""
    print("\ntwo stages on two cores, seconds of the clock (to reach: 1,200 together, 8,192 MiB)")
    print(f"{'interactions':>14}{'users':>10}{'items':>9}{'fit s':>9}{'top-100 s':>11}{'peak MiB':>10}")
    counts, spent = [], []
    for n in (10**5, 10**6, 10**7, LARGE["n"]):
        seen = run_child("two_stage", n, 2)
        counts.append(seen["interactions"])
        spent.append(seen["fit_wall"] + seen["lists_wall"])
        print(
            "{interactions:>14,}{n_users:>10,}{n_items:>9,}{fit_wall:>9,.0f}{lists_wall:>11,.0f}"
            "{peak_mib:>10,.0f}".format(**seen),
            flush=True,
        )
    print(
        f"fit and lists together grow as interactions^{np.polyfit(np.log(counts), np.log(spent), 1)[0]:.2f}"
    )


def run_child(name: str, n: int, cores: int) -> dict[str, float]:
    """What a child process has measured."""
    threads = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], str(cores))
    answer = subprocess.run(
        [sys.executable, __file__, "--child", name, str(n), "--cores", str(cores)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    )
    measured: dict[str, float] = json.loads(answer.stdout)
    return measured


def measure_child(name: str, n: int) -> None:
    """Measure one model at one size, in this process alone."""
    if name == "two_stage":
        print(json.dumps(two_stage(n)))
        return
    rows = synthetic.interactions(n)
    histories = rows.take(rows.user_ids <= 500).histories()
    model = model_class(name)()
    fit_seconds = timer(lambda: model.fit(rows))()
    score_seconds = timer(lambda: score_in_blocks(model.score, histories))()
    measured = {
        "interactions": len(rows),
        "fit_seconds": fit_seconds,
        "score_ms": 1000 * score_seconds / len(histories),
        "peak_mib": peak_mib(),
    }
    print(json.dumps(measured))


def two_stage(n: int) -> dict[str, float]:
    """Fit, and lists of everyone a few users at a time, in seconds of the clock."""
    from marquee.recommend.two_stage import TwoStage, TwoStageConfig

    n_users, n_items = n * LARGE["n_users"] // LARGE["n"], synthetic.catalogue_size(n)
    # Repeated pairs are dropped: a few more are asked for.
    rows = synthetic.interactions(round(1.03 * n), n_users, n_items).take(slice(0, n))
    users = np.unique(rows.user_ids)
    catalog = synthetic.catalog(n_items)
    start = time.perf_counter()
    model = TwoStage(TwoStageConfig(threads=2)).fit(rows, catalog)
    fitted = time.perf_counter()
    for first in range(0, len(users), 5_000):
        some = users[first : first + 5_000]
        # The rows are grouped by user.
        part = slice(*np.searchsorted(rows.user_ids, [some[0], some[-1] + 1]))
        model.recommend(rows.take(part).histories(), 100)
    return {
        "interactions": len(rows),
        "n_users": len(users),
        "n_items": n_items,
        "fit_wall": fitted - start,
        "lists_wall": time.perf_counter() - fitted,
        "peak_mib": peak_mib(),
    }


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


if __name__ == "__main__":
    main()
