"""
Training throughput of the NumPy network against its peers, on one core, in one run.

    python benchmarks/train_mlp.py [--torch-python PATH | --no-torch] [--seconds 20]

Same layers (256, 256 → 200 classes), batches of 32 rows, Adam, float32. scikit-learn's `MLPClassifier` is
given the embedded features, since it has neither the periodic embedding nor batch normalisation; PyTorch
(eager, CPU) trains all of it. PyTorch is no dependency of Marquee: it runs under `--torch-python`, or in a
virtual environment made for this run. The contenders take turns; the fastest turn of each counts, in
seconds of processor time, so that other processes disturb little.
"""

import os

os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from marquee.models._adam import Adam
from marquee.models._network import Network
from marquee.models._training import Rows, train_epoch

N_INPUTS, FREQUENCIES, HIDDEN, CLASSES, BATCH = 3, 16, (256, 256), 200, 32
ROWS = 50 * BATCH
GROWTH = (3_200, 12_800, 51_200)
TORCH = "torch==2.13.0"


def make_rows(n: int) -> Rows:
    """Rows of uniform inputs, none missing, with random labels."""
    rng = np.random.default_rng(0)
    inputs = np.zeros((n, 2 * N_INPUTS), np.float32)
    inputs[:, :N_INPUTS] = rng.uniform(-1, 1, (n, N_INPUTS))
    return Rows(inputs, rng.integers(0, CLASSES, n))


def numpy_epoch(rows: Rows) -> Callable[[], float]:
    """One epoch of Marquee's training, in seconds."""
    rng = np.random.default_rng(0)
    network = Network(N_INPUTS, FREQUENCIES, HIDDEN, CLASSES)
    network.start(rng, batch_rows=BATCH, frequency_scales=[1.0] * N_INPUTS)
    adam = Adam(network.parameters, network.gradient, 1e-3)
    return lambda: timed(lambda: train_epoch(network, adam, rows, rng))


def products_epoch() -> Callable[[], float]:
    """Only the matrix products of an epoch: forward, weight gradients, input gradients."""
    rng = np.random.default_rng(0)
    widths = (N_INPUTS * (2 * FREQUENCIES + 1), *HIDDEN, CLASSES)
    values = [rng.standard_normal((BATCH, width), np.float32) for width in widths]
    weights = [rng.standard_normal(shape, np.float32) for shape in pairwise(widths)]
    activations = [np.empty_like(value) for value in values]
    gradients = [np.empty_like(weight) for weight in weights]

    def epoch() -> None:
        for _ in range(ROWS // BATCH):
            for layer, weight in enumerate(weights):
                np.matmul(values[layer], weight, out=activations[layer + 1])
            for layer in reversed(range(len(weights))):
                np.matmul(values[layer].T, values[layer + 1], out=gradients[layer])
                np.matmul(values[layer + 1], weights[layer].T, out=activations[layer])

    return lambda: timed(epoch)


def sklearn_epoch(rows: Rows) -> Callable[[], float]:
    """One epoch of scikit-learn's classifier on the embedded features."""
    frequencies = np.random.default_rng(0).normal(0, 2 * np.pi, (N_INPUTS, FREQUENCIES))
    angles = (rows.inputs[:, :N_INPUTS, None] * frequencies).reshape(len(rows), -1)
    features = np.concatenate([np.sin(angles), np.cos(angles), rows.inputs[:, N_INPUTS:]], axis=1)
    features = features.astype(np.float32)
    model = MLPClassifier(HIDDEN, batch_size=BATCH, alpha=0.0)
    warnings.simplefilter("ignore", ConvergenceWarning)
    return lambda: timed(lambda: model.partial_fit(features, rows.labels, classes=np.arange(CLASSES)))


def torch_epoch(python: str) -> Callable[[], float]:
    """One epoch of PyTorch in a process of its own, which waits while the others run."""
    shape = [N_INPUTS, FREQUENCIES, *HIDDEN, CLASSES, BATCH, ROWS]
    child = subprocess.Popen(
        [python, str(Path(__file__).with_name("_torch_mlp.py")), *map(str, shape)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the pipes to PyTorch are missing")
    stdin, stdout = child.stdin, child.stdout

    def epoch() -> float:
        stdin.write("epoch\n")
        stdin.flush()
        return float(stdout.readline())

    epoch()  # the child is up
    return epoch


def torch_environment(folder: Path) -> str:
    """The Python of a new virtual environment with PyTorch."""
    python = str(folder / "torch" / "bin" / "python")
    print(f"installing {TORCH} for this run …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "torch")], check=True, capture_output=True)
    install = [python, "-m", "pip", "install", "--quiet", TORCH, "numpy"]
    subprocess.run(install, check=True, capture_output=True, timeout=900)
    return python


def timed(call: Callable[[], object]) -> float:
    """Seconds of processor time that a call takes."""
    started = time.process_time()
    call()
    return time.process_time() - started


def growth_exponent() -> float:
    """Slope of log(seconds of an epoch) over log(rows): 1 is linear."""
    epochs = [numpy_epoch(make_rows(n)) for n in GROWTH]
    best = [np.inf] * len(GROWTH)
    for _ in range(3):
        best = [min(seconds, epoch()) for seconds, epoch in zip(best, epochs, strict=True)]
    return float(np.polyfit(np.log(GROWTH), np.log(best), 1)[0])


def main() -> None:
    """Measure, and print rows per second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--torch-python", help="a Python that can import torch")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the comparison")
    options = parser.parse_args()
    rows = make_rows(ROWS)
    contenders = {
        "marquee": numpy_epoch(rows),
        "matrix products alone": products_epoch(),
        "scikit-learn MLPClassifier": sklearn_epoch(rows),
    }
    with tempfile.TemporaryDirectory() as folder:
        if not options.no_torch:
            try:
                python = options.torch_python or torch_environment(Path(folder))
                contenders["PyTorch eager"] = torch_epoch(python)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                print(f"not measured: PyTorch eager ({TORCH} cannot be had here: {error})")
        best = dict.fromkeys(contenders, np.inf)
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            for name, epoch in contenders.items():
                best[name] = min(best[name], epoch())
    print(f"{'one core, batch 32, fastest epoch':<38}{'rows/s':>10}")
    for name, seconds in best.items():
        print(f"{name:<38}{ROWS / seconds:>10,.0f}")
    wanted = {"scikit-learn MLPClassifier": 1.5, "PyTorch eager": 1.0, "matrix products alone": 0.5}
    for name, least in wanted.items():
        if name in best:
            ratio = best[name] / best["marquee"]
            print(f"marquee / {name}: {ratio:.2f} (wanted ≥ {least}){'' if ratio >= least else ' NOT MET'}")
    print(f"time per epoch ~ rows^{growth_exponent():.2f} from {GROWTH[0]:,} to {GROWTH[-1]:,} rows")


if __name__ == "__main__":
    main()
