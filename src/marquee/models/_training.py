"""Training of the network: mini-batches, early stopping, checkpoints from which it resumes bit for bit."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from marquee.data.schema import CSR, Index, Matrix
from marquee.errors import ModelError
from marquee.models._adam import Adam
from marquee.models._network import Network, named_classes
from marquee.models.base import Progress
from marquee.models.checkpoints import Checkpoints

__all__ = ["Rows", "Schedule", "evaluate", "train", "train_epoch"]

EVALUATED_ELEMENTS = 4_194_304
"""Probabilities held at a time when rows are evaluated: 16 MiB."""


@dataclass(frozen=True, eq=False)
class Rows:
    """
    Encoded rows.

    Attributes:
        inputs: (n, 2 · n_inputs + n_plain) as the network takes them.
        labels: (n,) class indices, or (n, n_outputs) distributions.
        offset_rows: (n,) which of the network's offsets is whose, where it has some.
        excluded: (n, n_outputs) classes that a row cannot have.
    """

    inputs: Matrix
    labels: Index | CSR
    offset_rows: Index | None = None
    excluded: CSR | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, chosen: Index | slice) -> Self:
        """The given rows, in that order."""
        offset_rows = None if self.offset_rows is None else self.offset_rows[chosen]
        excluded = None if self.excluded is None else self.excluded[chosen]
        return type(self)(self.inputs[chosen], self.labels[chosen], offset_rows, excluded)


@dataclass(frozen=True)
class Schedule:
    """
    How long and in what steps to train.

    Attributes:
        seed: of the weights and the order of the rows.
        learning_rate: of Adam.
        batch_rows, max_batch_rows: least and greatest number of rows of a step; it grows with the data.
        max_epochs, max_row_visits: end of training at the latest (at least one epoch).
        patience: epochs without a better validation loss before it ends.
        min_improvement: fall of the validation loss, in nats, that counts as better.
        frequency_scales: of the periodic embedding, one per input.
        weight_decay: share of the weights that a step of size 1 would take off.
    """

    seed: int
    learning_rate: float
    batch_rows: int
    max_batch_rows: int
    max_epochs: int
    max_row_visits: int
    patience: int
    min_improvement: float
    frequency_scales: tuple[float, ...]
    weight_decay: float = 0.0

    def rows_of_step(self, n_rows: int) -> int:
        """Rows of a step for so many training rows: about 256 steps an epoch."""
        return min(n_rows, max(self.batch_rows, min(self.max_batch_rows, n_rows // 256)))

    def epochs(self, n_rows: int) -> int:
        """Epochs at most for so many training rows."""
        return max(1, min(self.max_epochs, self.max_row_visits // max(n_rows, 1)))


def train(
    network: Network,
    parts: Mapping[str, Rows],
    schedule: Schedule,
    *,
    progress: Progress,
    shortcut: tuple[float, float] | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[list[dict[str, float]], int]:
    """
    Train a network; it ends with the weights of the epoch of least validation loss.

    Args:
        network: new; its weights are drawn here.
        parts: "train", "validation" and "test" rows; the last two may be empty (then the training loss
            decides). The test rows are only measured.
        schedule: when to stop.
        progress: told the metrics of each epoch, those before a resumption too.
        shortcut: where the gains of the network's shortcut and the scale of its offsets start, of a
            network that has them; the last layer, a correction of the two, then starts at 0. Default: the
            output biases start at the logarithm of the classes' shares.
        checkpoints: where to save each epoch and to resume from.

    Returns:
        The metrics of each epoch, and which (from 1) had the least validation loss.

    Raises:
        ModelError: the loss became infinite or NaN before it was ever better.
    """
    rows = parts["train"]
    rng = np.random.default_rng(schedule.seed)
    network.start(
        rng, batch_rows=schedule.rows_of_step(len(rows)), frequency_scales=schedule.frequency_scales
    )
    if shortcut is not None:
        network.start_shortcut(*shortcut)
    else:
        _, classes, shares = named_classes(rows.labels)
        counts = np.bincount(classes, shares, minlength=network.n_outputs)
        network.set_output_bias(np.log(np.maximum(counts, 1) / len(rows)))
    adam = Adam(network.parameters, network.gradient, schedule.learning_rate)
    best = {"parameters": network.parameters.copy(), "running": network.running.copy()}
    best_loss, best_epoch = np.inf, 0
    epochs: list[dict[str, float]] = []
    fingerprint = _fingerprint(network, parts, schedule, shortcut) if checkpoints is not None else ""
    live = {
        "parameters": network.parameters,
        "running": network.running,
        "adam.first": adam.first,
        "adam.second": adam.second,
        "best.parameters": best["parameters"],
        "best.running": best["running"],
    }
    if checkpoints is not None and (found := checkpoints.latest(fingerprint)) is not None:
        arrays, facts = found
        for name, array in live.items():
            array[:] = arrays[name]
        rng.bit_generator.state = facts["rng"]
        adam.steps, best_loss, best_epoch = facts["steps"], facts["best_loss"], facts["best_epoch"]
        epochs = facts["epochs"]
    limit = schedule.epochs(len(rows))
    progress.total(limit, "epoch")
    for metrics in epochs:
        progress.step(metrics)
    with _one_thread():
        while len(epochs) < limit and len(epochs) - best_epoch < schedule.patience:
            metrics = train_epoch(network, adam, rows, rng, weight_decay=schedule.weight_decay)
            for name in ("validation", "test"):
                if len(parts[name]):
                    loss, accuracy = evaluate(network, parts[name])
                    metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
            epochs.append(metrics)
            loss = metrics.get("validation_loss", metrics["train_loss"])
            if loss < best_loss - schedule.min_improvement:
                best_loss, best_epoch = loss, len(epochs)
                best["parameters"][:] = network.parameters
                best["running"][:] = network.running
            if checkpoints is not None:
                facts = {
                    "rng": rng.bit_generator.state,
                    "steps": adam.steps,
                    "best_loss": best_loss,
                    "best_epoch": best_epoch,
                    "epochs": epochs,
                }
                checkpoints.save(fingerprint, len(epochs), live, facts)
            progress.step(metrics)
    if not best_epoch:
        raise ModelError(
            f"Training diverged: the losses are {epochs[-1]}.", fix="Lower learning_rate; check the inputs."
        )
    network.restore(best["parameters"], best["running"])
    return epochs, best_epoch


def evaluate(network: Network, rows: Rows) -> tuple[float, float]:
    """
    Mean cross-entropy and accuracy on rows.

    Args:
        network: trained.
        rows: at least one.
    """
    loss, correct = 0.0, 0
    size = max(1, EVALUATED_ELEMENTS // network.n_outputs)
    for start in range(0, len(rows), size):
        part = rows.take(slice(start, start + size))
        answers = network.log_probabilities(part.inputs, part.offset_rows, part.excluded)
        which, classes, shares = named_classes(part.labels)
        chosen = answers[which, classes]
        loss -= float((chosen * shares).sum(dtype=np.float64))
        correct += len(np.unique(which[chosen == answers.max(axis=1)[which]]))
    return loss / len(rows), correct / len(rows)


def train_epoch(
    network: Network, adam: Adam, rows: Rows, rng: np.random.Generator, *, weight_decay: float = 0.0
) -> dict[str, float]:
    """
    One pass over the rows in random order; returns their loss and accuracy as each batch met the network.

    Args:
        network: started.
        adam: of the network.
        rows: at least `network.batch_rows`.
        rng: source of the order, and of the dropout.
        weight_decay: of the schedule.
    """
    batch = network.batch_rows
    # Rows that fill no batch wait for a later epoch, which draws another order.
    order = rng.permutation(len(rows))[: len(rows) // batch * batch]
    rows = rows.take(order)
    # Without dropout the generator is left alone: it only orders the rows.
    dropout_rng = rng if any(network.dropout) else None
    loss, correct = 0.0, 0
    for start in range(0, len(order), batch):
        step = rows.take(slice(start, start + batch))
        step_loss, step_correct = network.loss_and_gradient(
            step.inputs, step.labels, step.offset_rows, step.excluded, dropout_rng
        )
        adam.step()
        if weight_decay:
            network.decay(adam.learning_rate * weight_decay)
        loss += step_loss * batch
        correct += step_correct
    return {"train_loss": loss / len(order), "train_accuracy": correct / len(order)}


def _one_thread() -> AbstractContextManager[Any]:
    # Products of 32 rows gain nothing from threads and lose much to spinning beside other processes; and
    # with one thread the weights do not depend on the number of cores.
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _fingerprint(network: Network, parts: Mapping[str, Rows], schedule: Schedule, shortcut: object) -> str:
    shape: list[Any] = [asdict(schedule), network.n_inputs, network.n_frequencies, network.hidden]
    shape += [network.n_outputs, network.n_plain, network.dropout, shortcut]
    sha = hashlib.sha256(json.dumps(shape).encode())
    arrays = [network.basis, network.offsets]
    for name, rows in sorted(parts.items()):
        sha.update(f"{name} {len(rows)}".encode())
        arrays += [rows.inputs, *named_classes(rows.labels), rows.offset_rows]
        if rows.excluded is not None:
            arrays += named_classes(rows.excluded)
    for array in arrays:
        sha.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
