"""
A multi-layer perceptron in NumPy: forward, full gradient, inference.

    periodic embedding → (linear → batch normalisation → ReLU) × n → linear → softmax, cross-entropy

Beside the embedded inputs a row may bring others as they are, a point that takes a shortcut to the answer
through fixed factors of the classes, and a fixed offset of its logits (a prior, such as the logarithm of
the popularity of its day) whose scale is learnt. A label is a class, or a distribution over classes.

All parameters are views of one flat vector, all gradients of another, all running statistics of a
third, so that an optimiser, a checkpoint and a copy are each one operation. Buffers of a training step
are allocated once.

References: Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"
(periodic embedding); Ioffe & Szegedy 2015 (batch normalisation); Srivastava et al. 2014 (dropout);
Loshchilov & Hutter 2019 (decoupled weight decay).
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from marquee.data.schema import CSR, Index
from marquee.models._adam import Floats, axpy

__all__ = ["Network", "named_classes"]

INFERENCE_ROWS = 32
"""Rows of every inference product. Always this many (padded), because a product of another shape may
round differently: so a row alone gets the very answer that it gets in a batch."""


class Network:
    """
    The network; `start` it to train, or `restore` it to answer.

    Args:
        n_inputs: numeric inputs of a row.
        n_frequencies: sines and cosines per input.
        hidden: widths of the hidden layers.
        n_outputs: classes.
        n_plain: further inputs of a row, which are not embedded.
        basis: (d, n_outputs) fixed factors of the classes, through which the last layer answers. The last
            d inputs are a point in their space that takes a shortcut to there, each coordinate with a
            learnt gain. None: the last layer answers itself.
        offsets: (n_offsets, n_outputs) fixed logits, of which each row of data names one; none: no offset.
        dropout: share of the features, and of each hidden layer's units, left out of a training step.
        dtype: float32, or float64 to check gradients.

    Attributes:
        parameters, gradient: (n_parameters,) flat vectors.
        running: (2 · sum(hidden),) mean and variance of each hidden layer.
    """

    bn_epsilon = 1e-5
    bn_rate = 0.1

    def __init__(
        self,
        n_inputs: int,
        n_frequencies: int,
        hidden: Sequence[int],
        n_outputs: int,
        *,
        n_plain: int = 0,
        basis: Floats | None = None,
        offsets: Floats | None = None,
        dropout: tuple[float, float] = (0.0, 0.0),
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.n_inputs, self.n_frequencies, self.n_outputs = n_inputs, n_frequencies, n_outputs
        self.hidden = tuple(hidden)
        self.n_plain, self.basis, self.offsets, self.dropout = n_plain, basis, offsets, dropout
        self.dtype = np.dtype(dtype)
        self._widths = (n_inputs * (2 * n_frequencies + 1) + n_plain, *self.hidden, n_outputs)
        n_top = n_outputs if basis is None else len(basis)
        self._n_gains = 0 if basis is None else len(basis)
        self._shapes: list[tuple[int, ...]] = [
            (n_inputs, n_frequencies),
            (int(offsets is not None),),
            (self._n_gains,),
        ]
        for rows, columns in zip(self._widths[:-2], self.hidden, strict=True):
            self._shapes += [(rows, columns), (columns,), (columns,)]  # weights, scale, shift
        self._shapes += [(self._widths[-2], n_top), (n_top,)]

    def start(self, rng: np.random.Generator, *, batch_rows: int, frequency_scales: Sequence[float]) -> Self:
        """
        Draw the weights and allocate what training needs.

        Args:
            rng: source of the weights.
            batch_rows: rows of a training step.
            frequency_scales: (n_inputs,) standard deviation of the frequencies of each input, in cycles
                per unit of its range [-1, 1].
        """
        size = sum(int(np.prod(shape)) for shape in self._shapes)
        self.restore(np.zeros(size, self.dtype), np.zeros(2 * sum(self.hidden), self.dtype))
        for variance in self._running[1::2]:
            variance[:] = 1.0
        spread = 2 * np.pi * np.asarray(frequency_scales)[:, None]
        self._frequencies[:] = rng.normal(0.0, spread, self._frequencies.shape)
        for layer in range(len(self.hidden)):
            weights, scale = self._layers[3 * layer : 3 * layer + 2]
            weights[:] = rng.normal(0.0, np.sqrt(2.0 / len(weights)), weights.shape)  # He et al. 2015
            scale[:] = 1.0
        weights = self._layers[-2]
        weights[:] = rng.normal(0.0, np.sqrt(1.0 / len(weights)), weights.shape)
        self._scale[:] = 1.0
        self._allocate(batch_rows)
        return self

    def restore(self, parameters: Floats, running: Floats) -> Self:
        """Take over the vectors of a trained network, without a copy."""
        self.parameters, self.running = parameters, running
        self._frequencies, self._scale, self._gains, *self._layers = _views(parameters, self._shapes)
        self._running = _views(running, self._statistics_shapes)
        return self

    def set_output_bias(self, bias: Floats) -> None:
        """Start from a prior: (n_outputs,) logits of a row about which nothing is known."""
        self._layers[-1][:] = bias

    def start_shortcut(self, gain: float, offset_scale: float) -> None:
        """Start as a linear model: the gains of the shortcut, the scale of the offsets, nothing else."""
        self._gains[:], self._scale[:], self._layers[-2][:] = gain, offset_scale, 0.0

    @property
    def offset_scale(self) -> float:
        """The learnt scale of the offsets."""
        return float(self._scale[0])

    def decay(self, share: float) -> None:
        """Shrink the weights, not the scales, shifts, biases and frequencies."""
        for weights in self._layers[::3]:
            np.multiply(weights, 1.0 - share, out=weights)

    def loss_and_gradient(
        self,
        inputs: Floats,
        labels: Index | CSR,
        offset_rows: Index | None = None,
        excluded: CSR | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[float, int]:
        """
        One training step's forward and backward pass; leaves the gradient in `gradient` and moves the
        running statistics.

        Args:
            inputs: (batch_rows, 2 · n_inputs + n_plain + d) values in [-1, 1], then 1.0 where missing
                (value 0), then the plain inputs, then the point of the shortcut.
            labels: (batch_rows,) class indices, or (batch_rows, n_outputs) distributions.
            offset_rows: (batch_rows,) which offset is whose, where there are offsets.
            excluded: (batch_rows, n_outputs) classes that a row cannot have.
            rng: source of the dropout; without one, nothing is left out.

        Returns:
            Mean cross-entropy of the batch, and how many rows it classified right.
        """
        values = inputs[:, : self.n_inputs]
        self._embed(values, inputs[:, self.n_inputs : 2 * self.n_inputs + self.n_plain])
        masks = self._draw_masks(rng)
        seen = np.multiply(self._features, masks[0], out=self._seen) if masks else self._features
        below = seen
        for layer in range(len(self.hidden)):
            below = self._hidden_forward(layer, below)
            if masks:
                np.multiply(below, masks[layer + 1], out=below)
        loss, correct = self._softmax_cross_entropy(below, inputs, labels, offset_rows, excluded)
        weights, (d_weights, d_bias) = self._layers[-2], self._d_layers[-2:]
        delta = self._logits  # (batch_rows, n_outputs), now d loss / d logits
        if offset_rows is not None:
            self._d_scale[:] = np.vdot(delta, self._offset)
        if self.basis is not None:
            delta = np.matmul(delta, self.basis.T, out=self._d_top)
            np.einsum("bd,bd->d", delta, inputs[:, -self._n_gains :], out=self._d_gains)
        np.matmul(below.T, delta, out=d_weights)
        np.matmul(self._ones, delta, out=d_bias)
        for layer in reversed(range(len(self.hidden))):
            np.matmul(delta, weights.T, out=self._deltas[layer])
            delta = self._deltas[layer]
            if masks:
                np.multiply(delta, masks[layer + 1], out=delta)
            below = self._activations[layer - 1] if layer else seen
            self._hidden_backward(layer, delta, below)
            weights = self._layers[3 * layer]
        np.matmul(delta, weights.T, out=self._d_features)
        if masks:
            np.multiply(self._d_features, masks[0], out=self._d_features)
        self._embed_backward(values)
        np.subtract(self._batch_statistics, self.running, out=self._batch_statistics)
        np.multiply(self._batch_statistics, self.bn_rate, out=self._batch_statistics)
        np.add(self.running, self._batch_statistics, out=self.running)
        return loss, correct

    def log_probabilities(
        self, inputs: Floats, offset_rows: Index | None = None, excluded: CSR | None = None
    ) -> Floats:
        """
        Answers of the trained network, by its running statistics.

        Args:
            inputs: (n, 2 · n_inputs + n_plain + d) as in training.
            offset_rows, excluded: (n,) and (n, n_outputs) as in training; excluded ones get -inf.

        Returns:
            (n, n_outputs) natural logarithms; a row is the same to the bit in whatever batch it comes.
        """
        logits = self.logits(inputs, offset_rows)
        if excluded is not None:
            which, classes, _ = named_classes(excluded)
            logits[which, classes] = -np.inf
        logits -= logits.max(axis=1, keepdims=True, initial=-np.inf)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def logits(self, inputs: Floats, offset_rows: Index | None = None) -> Floats:
        """
        What the softmax of `log_probabilities` normalises.

        Args:
            inputs, offset_rows: as there.

        Returns:
            (n, n_outputs); a row is the same to the bit in whatever batch it comes.
        """
        n = len(inputs)
        blocks = -(-n // INFERENCE_ROWS)
        padded = np.zeros((blocks * INFERENCE_ROWS, inputs.shape[1]), self.dtype)
        padded[:n] = inputs
        logits = np.empty((len(padded), self.n_outputs), self.dtype)
        affine = [self._folded(layer) for layer in range(len(self.hidden))]
        for start in range(0, len(padded), INFERENCE_ROWS):
            rows = slice(start, start + INFERENCE_ROWS)
            values = padded[rows, : self.n_inputs]
            angles = (values[:, :, None] * self._frequencies).reshape(INFERENCE_ROWS, -1)
            direct = padded[rows, self.n_inputs : 2 * self.n_inputs + self.n_plain]
            below = np.concatenate([np.sin(angles), np.cos(angles), direct], axis=1)
            for layer, (scale, shift) in enumerate(affine):
                below = below @ self._layers[3 * layer]
                below *= scale
                below += shift
                np.maximum(below, 0, out=below)
            if self.basis is None:
                np.matmul(below, self._layers[-2], out=logits[rows])
                logits[rows] += self._layers[-1]
            else:
                top = below @ self._layers[-2] + self._layers[-1]
                top += padded[rows, -self._n_gains :] * self._gains
                np.matmul(top, self.basis, out=logits[rows])
        logits = logits[:n]
        if offset_rows is not None and self.offsets is not None:
            logits += self._scale * self.offsets[offset_rows]
        return logits

    @property
    def _statistics_shapes(self) -> list[tuple[int, ...]]:
        return [(width,) for width in self.hidden for _ in range(2)]

    def _allocate(self, rows: int) -> None:
        dtype, waves = self.dtype, (rows, self.n_inputs, self.n_frequencies)
        self.batch_rows = rows
        self.gradient: Floats = np.zeros_like(self.parameters)
        self._d_frequencies, self._d_scale, self._d_gains, *self._d_layers = _views(
            self.gradient, self._shapes
        )
        self._batch_statistics: Floats = np.zeros_like(self.running)
        self._batch = _views(self._batch_statistics, self._statistics_shapes)
        self._features = np.empty((rows, self._widths[0]), dtype)
        self._d_features = np.empty_like(self._features)
        self._angles = np.empty(waves, dtype)
        self._sin, self._cos, self._missing = _columns(self._features, waves)
        self._d_sin, self._d_cos, _ = _columns(self._d_features, waves)
        self._centred = [np.empty((rows, width), dtype) for width in self.hidden]
        self._activations = [np.empty_like(centred) for centred in self._centred]
        self._deltas = [np.empty_like(centred) for centred in self._centred]
        self._scratch = [np.empty_like(centred) for centred in self._centred]
        self._vectors = [np.empty((4, width), dtype) for width in self.hidden]
        self._logits = np.empty((rows, self.n_outputs), dtype)
        self._row = np.empty((rows, 1), dtype)
        self._offset = np.empty_like(self._logits) if self.offsets is not None else self._logits[:0]
        self._top = np.empty((rows, self._n_gains), dtype)
        self._d_top = np.empty_like(self._top)
        self._seen, self._masks = self._features, []
        if any(self.dropout):
            self._seen = np.empty_like(self._features)
            self._masks = [np.empty_like(array) for array in (self._features, *self._activations)]
        self._add_scaled = axpy(self._logits)
        self._ones = np.ones(rows, dtype)  # sums over rows are products: faster than reductions
        self._shares = np.full(rows, 1 / rows, dtype)

    def _draw_masks(self, rng: np.random.Generator | None) -> list[Floats]:
        """What each layer keeps of its input, scaled so that its mean stays (none: everything)."""
        if rng is None or not self._masks:
            return []
        for mask, rate in zip(
            self._masks, (self.dropout[0], *[self.dropout[1]] * len(self.hidden)), strict=True
        ):
            rng.random(out=mask, dtype=np.float32 if self.dtype == np.float32 else np.float64)
            np.greater_equal(mask, rate, out=mask)
            np.multiply(mask, 1.0 / (1.0 - rate), out=mask)
        return self._masks

    def _embed(self, values: Floats, missing: Floats) -> None:
        np.multiply(values[:, :, None], self._frequencies, out=self._angles)
        np.sin(self._angles, out=self._sin)
        np.cos(self._angles, out=self._cos)
        self._missing[:] = missing

    def _embed_backward(self, values: Floats) -> None:
        np.multiply(self._d_sin, self._cos, out=self._angles)
        np.multiply(self._d_cos, self._sin, out=self._d_cos)
        np.subtract(self._angles, self._d_cos, out=self._angles)
        np.einsum("bif,bi->if", self._angles, values, out=self._d_frequencies)

    def _hidden_forward(self, layer: int, below: Floats) -> Floats:
        weights, scale, shift = self._layers[3 * layer : 3 * layer + 3]
        centred, above = self._centred[layer], self._activations[layer]
        mean, variance = self._batch[2 * layer : 2 * layer + 2]
        inverse, slope = self._vectors[layer][:2]
        rows = self.batch_rows
        np.matmul(below, weights, out=centred)
        np.matmul(self._shares, centred, out=mean)
        np.subtract(centred, mean, out=centred)
        np.einsum("ij,ij->j", centred, centred, out=variance)
        np.multiply(variance, 1 / rows, out=inverse)
        np.add(inverse, self.bn_epsilon, out=inverse)
        np.sqrt(inverse, out=inverse)
        np.divide(1.0, inverse, out=inverse)
        # The batch is normalised by its own (biased) variance; what is remembered is unbiased.
        np.multiply(variance, 1 / max(rows - 1, 1), out=variance)
        np.multiply(inverse, scale, out=slope)
        np.multiply(centred, slope, out=above)
        np.add(above, shift, out=above)
        np.maximum(above, 0, out=above)
        return above

    def _hidden_backward(self, layer: int, delta: Floats, below: Floats) -> None:
        """
        From d loss / d activation to d loss / d product, in place.

        With c = x - mean(x), r = 1 / sqrt(var + eps), y = scale · r · c + shift and rows n:
        d scale = r · sum(dy · c); d shift = sum(dy);
        d x = scale · r · (dy - mean(dy) - c · r² · mean(dy · c)).
        """
        d_weights, d_scale, d_shift = self._d_layers[3 * layer : 3 * layer + 3]
        centred, scratch = self._centred[layer], self._scratch[layer]
        inverse, slope, first, second = self._vectors[layer]
        # ReLU's derivative as 0.0 and 1.0: a product of floats is faster than one with a mask.
        np.greater(self._activations[layer], 0, out=scratch)
        np.multiply(delta, scratch, out=delta)
        np.matmul(self._ones, delta, out=d_shift)
        np.einsum("ij,ij->j", delta, centred, out=d_scale)
        np.multiply(d_scale, inverse, out=d_scale)
        np.multiply(d_scale, inverse, out=first)
        np.multiply(first, 1 / self.batch_rows, out=first)
        np.multiply(d_shift, 1 / self.batch_rows, out=second)
        np.multiply(centred, first, out=scratch)
        np.subtract(delta, scratch, out=delta)
        np.subtract(delta, second, out=delta)
        np.multiply(delta, slope, out=delta)
        np.matmul(below.T, delta, out=d_weights)

    def _softmax_cross_entropy(
        self,
        below: Floats,
        inputs: Floats,
        labels: Index | CSR,
        offset_rows: Index | None,
        excluded: CSR | None,
    ) -> tuple[float, int]:
        logits, row = self._logits, self._row
        top = logits if self.basis is None else self._top
        np.matmul(below, self._layers[-2], out=top)
        np.add(top, self._layers[-1], out=top)
        if self.basis is not None:
            top += inputs[:, -self._n_gains :] * self._gains
            np.matmul(top, self.basis, out=logits)
        if offset_rows is not None and self.offsets is not None:
            np.take(self.offsets, offset_rows, axis=0, out=self._offset)
            self._add_scaled(self._offset.reshape(-1), logits.reshape(-1), a=self._scale[0])
        if excluded is not None:
            which, classes, _ = named_classes(excluded)
            logits[which, classes] = -np.inf
        np.maximum.reduce(logits, axis=1, keepdims=True, out=row)
        np.subtract(logits, row, out=logits)
        which, classes, shares = named_classes(labels)
        chosen = logits[which, classes]  # ≤ 0, and 0 where the label is the most probable
        correct = np.bincount(which[chosen == 0])
        np.exp(logits, out=logits)
        np.add.reduce(logits, axis=1, keepdims=True, out=row)
        loss = (float(np.log(row).sum()) - float(chosen @ shares)) / self.batch_rows
        np.multiply(row, self.batch_rows, out=row)
        np.divide(logits, row, out=logits)
        logits[which, classes] -= shares / self.batch_rows
        return loss, int(np.count_nonzero(correct))

    def _folded(self, layer: int) -> tuple[Floats, Floats]:
        _, scale, shift = self._layers[3 * layer : 3 * layer + 3]
        mean, variance = self._running[2 * layer : 2 * layer + 2]
        slope = scale / np.sqrt(variance + self.bn_epsilon)
        return slope, shift - mean * slope


def named_classes(labels: Index | CSR) -> tuple[Index, Index, Floats]:
    """
    What labels name.

    Args:
        labels: (n,) classes, or (n, n_outputs) distributions.

    Returns:
        (n_named,) rows, classes, and the share of the row that each class has.
    """
    if not isinstance(labels, CSR):
        return np.arange(len(labels)), labels, np.ones(len(labels), np.float32)
    rows = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    return rows, labels.indices.astype(np.int64), labels.data


def _views(flat: Floats, shapes: Sequence[tuple[int, ...]]) -> list[Floats]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]


def _columns(features: Floats, waves: tuple[int, int, int]) -> tuple[Floats, Floats, Floats]:
    n = waves[1] * waves[2]
    sines, cosines, missing = np.split(features, [n, 2 * n], axis=1)
    return sines.reshape(waves, copy=False), cosines.reshape(waves, copy=False), missing
