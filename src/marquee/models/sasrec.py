"""
SASRec: causal self-attention over the newest events, trained to name what comes next.

Item vectors e of the history, newest last, pass through blocks of

    x ← x + σ(x G₁) ⊙ attention(norm x)        x ← x + σ(x G₂) ⊙ swiglu(norm x)

and the last row h scores every item by h·eᵢ + bᵢ with the same vectors. Attention knows the order by a
learned bias per distance, and the time by one per logarithmic gap between an event and the moment that is
predicted, so that a position means the same wherever it stands and "an hour ago" differs from "years ago".

Training needs PyTorch (extra `torch`, see `_sasrec_torch`); answering is this file and NumPy.

Source:
    Kang & McAuley 2018, "Self-attentive sequential recommendation"; Klenitskiy & Vasilev 2023, "Turning
    dross into gold loss" (cross-entropy over the catalogue); Petrov & Macdonald 2023, "gSASRec" (many
    negatives, corrected); Borisyuk et al. 2024, "LiGR", and Tikhonovich et al. 2025, "eSASRec" (gated
    blocks); Zhai et al. 2024, "HSTU" (distance and time biases); Pancha et al. 2022, "PinnerFormer"
    (targets from a horizon instead of the next event only).
"""

from importlib.util import find_spec
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import Event, Float32, Matrix, Microseconds, Vector
from marquee.errors import ModelError, NotFittedError
from marquee.models._sequences import (
    MASKED,
    Arrays,
    SasrecConfig,
    Sequences,
    padded,
    rating_classes,
)
from marquee.models.base import ModelState, Progress, Recommender, silent

__all__ = ["Sasrec", "SasrecConfig"]

MICROSECONDS_PER_DAY = 86_400_000_000
CHUNK_CELLS = 2**18
"""Attention weights of one head held at a time."""
NORM_EPSILON = np.float32(1e-5)


class Sasrec(Recommender):
    """Items by the product of their vectors with an attentive summary of the history."""

    name = "sasrec"
    Config = SasrecConfig
    config: SasrecConfig
    _popularity: Vector  # (n_items,) for empty histories
    _arrays: Arrays | None = None

    @classmethod
    def trainable(cls) -> bool:
        """Only where PyTorch is installed."""
        return find_spec("torch") is not None

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """
        Train by gradient descent in PyTorch; see `Recommender.fit`.

        Raises:
            ModelError: PyTorch is not installed.
        """
        try:
            from marquee.models._sasrec_torch import train
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ModelError(
                "Training the model 'sasrec' needs PyTorch, which is not installed.",
                fix="Run: pip install 'marquee-recsys[torch]' (in a checkout: make setup-torch).",
            ) from error
        rows = interactions.positives()
        rows = rows.take(np.lexsort((rows.events, rows.item_ids, rows.timestamps, rows.user_ids)))
        self._set_items(rows)
        items = self.items.index(rows.item_ids)
        weights = _recency(rows.timestamps, self.config.training_half_life_days)
        counts = np.bincount(items, weights, minlength=len(self.items)).astype(np.float64)
        self._popularity = (counts / max(counts.max(initial=0.0), 1e-12)).astype(np.float32)
        self._arrays = train(
            self.config,
            items,
            rating_classes(rows.ratings),
            rows.timestamps,
            np.unique(rows.user_ids, return_index=True)[1],
            weights,
            counts,
            progress,
        )
        return self

    def score(self, histories: Histories) -> Matrix:
        """Logits of the next item; without a known event, popularity."""
        arrays = self._trained()
        known = (self.items.index(histories.item_ids) >= 0) & (histories.events != Event.HIDE)
        recent = histories.where(known).last(self.config.length)
        items, ratings = self.items.index(recent.item_ids), rating_classes(recent.ratings)
        scores: Matrix = np.tile(self._popularity, (len(recent), 1))
        # Sequences of similar length share a block, longest first, so that little of it is padding.
        order = np.argsort(-recent.lengths, kind="stable")
        order = order[recent.lengths[order] > 0]
        start = 0
        while start < len(order):
            size = max(1, CHUNK_CELLS // int(recent.lengths[order[start]]) ** 2)
            rows = order[start : start + size]
            sequences = padded(
                recent.indptr[rows],
                recent.indptr[rows + 1],
                items,
                ratings,
                recent.timestamps,
                recent.as_of[rows],
            )
            block = self._summary(arrays, sequences) @ arrays["items"].T
            block += arrays["item_bias"]
            scores[rows] = block
            start += size
        return scores

    def state(self) -> ModelState:
        """Item ids, counts, popularity and the weights of the network."""
        weights = {f"network.{name}": array for name, array in self._trained().items()}
        return ModelState(
            {**self._items_state(), "popularity": self._popularity, **weights},
            {"config": self.config.to_dict()},
        )

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        weights = {k.removeprefix("network."): v for k, v in state.arrays.items() if k.startswith("network.")}
        if not weights:
            raise ModelError("The state holds no weights of a network.", fix="Train the model again.")
        model._restore_items(state)
        model._popularity = state.arrays["popularity"]
        model._arrays = weights
        return model

    def _trained(self) -> Arrays:
        if self._arrays is None:
            raise NotFittedError(
                f"The model {self.name!r} is not fitted.", fix="Call fit() or load a bundle."
            )
        return self._arrays

    def _summary(self, arrays: Arrays, sequences: Sequences) -> Matrix:
        """(n, d) what the last block makes of the newest event."""
        length = sequences.items.shape[1]
        ago = np.maximum(np.arange(length)[:, None] - np.arange(length), 0)
        gaps, hidden = sequences.gaps(), sequences.hidden()
        x: Float32 = arrays["items"][sequences.items] * np.float32(np.sqrt(self.config.width))
        x += arrays["ratings"][sequences.ratings]  # (n, length, d)
        for block in range(self.config.blocks):
            w = {
                k.removeprefix(f"block{block}."): v
                for k, v in arrays.items()
                if k.startswith(f"block{block}.")
            }
            # Of the last block only its last row is asked for.
            asked = slice(-1, None) if block == self.config.blocks - 1 else slice(None)
            own = slice(block * self.config.heads, (block + 1) * self.config.heads)
            bias = arrays["gap"][own][:, gaps[:, asked]].transpose(1, 0, 2, 3)
            bias = bias + arrays["ago"][own][:, ago[asked]]
            bias[np.broadcast_to(hidden[:, None, asked], bias.shape)] = MASKED
            mixed = self._attention(w, _norm(x, w["norm1.weight"], w["norm1.bias"]), asked, bias)
            x = x[:, asked]
            x = x + _sigmoid(_linear(w, "gate1", x)) * mixed
            inner = _linear(w, "inner", _norm(x, w["norm2.weight"], w["norm2.bias"]))
            left, right = np.split(inner, 2, axis=-1)
            outer = _linear(w, "outer", left * _sigmoid(left) * right)
            x = x + _sigmoid(_linear(w, "gate2", x)) * outer
        return _norm(x[:, -1], arrays["norm.weight"], arrays["norm.bias"])

    def _attention(self, w: Arrays, x: Float32, asked: slice, bias: Float32) -> Float32:
        """(n, asked, d) from (n, length, d) and the logits (n, heads, asked, length) known beforehand."""
        n, length, d = x.shape
        heads = self.config.heads
        query, key, value = np.split(w["qkv.weight"], 3)
        Q = (x[:, asked] @ query.T).reshape(n, -1, heads, d // heads).transpose(0, 2, 1, 3)
        K = (x @ key.T).reshape(n, length, heads, d // heads).transpose(0, 2, 3, 1)
        V = (x @ value.T).reshape(n, length, heads, d // heads).transpose(0, 2, 1, 3)
        logits = Q @ K
        logits *= np.float32((d // heads) ** -0.5)
        logits += bias
        logits -= logits.max(axis=-1, keepdims=True)
        weights = np.exp(logits, out=logits)
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ V).transpose(0, 2, 1, 3).reshape(n, -1, d)
        return np.asarray(mixed @ w["out.weight"].T, dtype=np.float32)


def _recency(timestamps: Microseconds, half_life_days: float | None) -> NDArray[np.float64]:
    if half_life_days is None:
        return np.ones(len(timestamps))
    age_days = (timestamps.max(initial=0) - timestamps) / MICROSECONDS_PER_DAY
    return np.asarray(np.exp2(-age_days / half_life_days))


def _linear(w: Arrays, name: str, x: Float32) -> Float32:
    made: Float32 = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return made


def _sigmoid(x: Float32) -> Float32:
    values: Float32 = expit(x)
    return values


def _norm(x: Float32, weight: Float32, bias: Float32) -> Float32:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normed: Float32 = centred / np.sqrt(variance + NORM_EPSILON) * weight + bias
    return normed
