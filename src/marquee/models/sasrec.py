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

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import Event, Float32, Index, Matrix, Microseconds, Vector
from marquee.errors import ModelError, NotFittedError
from marquee.models.base import ModelConfig, ModelState, Progress, Recommender, silent, tunable

__all__ = ["Sasrec", "SasrecConfig"]

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_DAY = 86_400_000_000
GAPS = 32
"""Classes of time gaps: below 1 s, 3 s, 7 s … 68 years."""
RATINGS = 6
"""Classes of ratings: none, then fifths of the scale of ten."""
CHUNK_CELLS = 2**18
"""Attention weights of one head held at a time."""
NORM_EPSILON = np.float32(1e-5)
MASKED = np.float32(-1e9)

Arrays = dict[str, Float32]


@dataclass(frozen=True)
class SasrecConfig(ModelConfig):
    """Hyper-parameters of `Sasrec`."""

    length: int = tunable(50, "L: newest events that are looked at.", choices=(50, 100, 200))
    width: int = tunable(32, "d: size of the item vectors.", choices=(32, 64, 128))
    blocks: int = tunable(1, "Blocks of attention and feed-forward layer.", low=1, high=3)
    heads: int = tunable(2, "Heads of the attention; must divide the width.", choices=(1, 2, 4))
    dropout: float = tunable(0.5, "Share of activations dropped in training.", low=0.0, high=0.6)
    horizon: int = tunable(
        20, "Next events of which one, drawn anew in each epoch, is the target.", choices=(1, 5, 10, 20, 40)
    )
    training_half_life_days: float | None = tunable(
        730.0,
        "Age at which a target counts half; none: all count alike.",
        choices=(None, 180.0, 365.0, 730.0, 1460.0),
    )
    softmax_items: int = tunable(
        1024, "Items in the softmax of a training step, drawn with correction; all if there are no more."
    )
    epochs: int = tunable(6, "Passes over the data; small data are soon known by heart.", low=3, high=60)
    batch_sequences: int = tunable(32, "Sequences of a training step.")
    learning_rate: float = tunable(0.003, "Highest step of AdamW.", low=0.0005, high=0.01, log=True)
    weight_decay: float = tunable(3.0, "Decay of AdamW; biases have none.", low=0.01, high=10.0, log=True)

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("length", "width", "blocks", "heads", "horizon")}
        sizes |= {name: getattr(self, name) for name in ("softmax_items", "epochs", "batch_sequences")}
        if too_small := [name for name, size in sizes.items() if size < 1]:
            raise ValueError(f"{', '.join(too_small)} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")


@dataclass(frozen=True, eq=False, slots=True)
class Sequences:
    """
    Event sequences padded on the left to one length, the newest event in the last column.

    Attributes:
        items: (n, length) item indices, 0 as padding.
        ratings: (n, length) classes of ratings, 0 as padding.
        times: (n, length) when each event was; padding is as the newest event.
        moments: (n, length) when the event after each one was, or is asked for.
        inside: (n, length) False for padding.
    """

    items: Index
    ratings: Index
    times: Microseconds
    moments: Microseconds
    inside: NDArray[np.bool_]

    def gaps(self) -> Index:
        """(n, length, length) class of the time from event (last axis) to moment (middle axis)."""
        seconds = (self.moments[:, :, None] - self.times[:, None, :]) // MICROSECONDS_PER_SECOND
        # The exponent of a float is the position of the highest bit.
        _, exponents = np.frexp(np.maximum(seconds, 0) + 1.0)
        classes: Index = np.minimum(exponents - 1, GAPS - 1).astype(np.int64)
        return classes

    def hidden(self) -> NDArray[np.bool_]:
        """(n, length, length) True where a row may not look: ahead of itself and at padding."""
        length = self.items.shape[1]
        return np.triu(np.ones((length, length), bool), 1) | ~self.inside[:, None, :]


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
                fix="Run: pip install 'marquee[torch]' (in a checkout: make setup-torch).",
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


def rating_classes(ratings: Vector) -> Index:
    """(n,) 0 without a rating, else 1 to 5 by fifths of the scale of ten."""
    fifths = np.clip(np.ceil(np.nan_to_num(ratings) / 2.0), 1, RATINGS - 1)
    return np.where(np.isnan(ratings), 0, fifths).astype(np.int64)


def padded(
    starts: Index,
    stops: Index,
    items: Index,
    ratings: Index,
    times: Microseconds,
    last_moments: Microseconds,
) -> Sequences:
    """
    Runs of flat columns as one block.

    Args:
        starts, stops: (n,) each run, not empty.
        items, ratings, times: (n_events,) columns.
        last_moments: (n,) moment that follows each run.
    """
    length = int((stops - starts).max())
    where = stops[:, None] - np.arange(length, 0, -1)  # (n, length)
    inside = where >= starts[:, None]
    where = np.where(inside, where, stops[:, None] - 1)
    when = times[where]
    moments = np.concatenate([when[:, 1:], last_moments[:, None]], axis=1)
    return Sequences(
        np.where(inside, items[where], 0), np.where(inside, ratings[where], 0), when, moments, inside
    )


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
