"""Histories as padded sequences: what `sasrec` answers from and `_sasrec_torch` trains on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Float32, Index, Microseconds, Vector
from marquee.models.base import ModelConfig, tunable

__all__ = ["GAPS", "MASKED", "RATINGS", "Arrays", "SasrecConfig", "Sequences", "padded", "rating_classes"]

MICROSECONDS_PER_SECOND = 1_000_000
GAPS = 32
"""Classes of time gaps: below 1 s, 3 s, 7 s … 68 years."""
RATINGS = 6
"""Classes of ratings: none, then fifths of the scale of ten."""
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
