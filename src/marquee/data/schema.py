"""
One vocabulary of columns for every table.

Column names, Arrow schemas and event kinds are defined here once; everything else imports them.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "CSR",
    "DISLIKED_RATING",
    "INTERACTIONS",
    "ITEMS",
    "Event",
    "Float32",
    "Ids",
    "Index",
    "Matrix",
    "Microseconds",
    "Vector",
]

Matrix = NDArray[np.float32]  # (n, m)
Vector = NDArray[np.float32]  # (n,)
Float32 = NDArray[np.float32]  # any shape
Ids = NDArray[np.int64]  # (n,) external ids
Index = NDArray[np.int64]  # (n,) dense internal indices
Microseconds = NDArray[np.int64]  # (n,) UTC, since 1970-01-01
CSR = sparse.csr_array

DISLIKED_RATING: Final = 4.0
"""The latest rating of an item at or below this, out of 10, means disliked."""


class Event(IntEnum):
    """What a user did with an item. The integer is the code in arrays, the name (lower case) in tables."""

    WATCH = 0
    RATE = 1
    LIKE = 2
    HIDE = 3
    CLICK = 4
    UNDO = 5

    @property
    def label(self) -> str:
        """The name used in tables, files and the API."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "Event":
        """
        Event by its name in tables.

        Raises:
            ValueError: unknown name.
        """
        try:
            return cls[label.upper()]
        except KeyError:
            known = ", ".join(event.label for event in cls)
            raise ValueError(f"Unknown event {label!r}; known: {known}") from None


INTERACTIONS: Final = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("rating", pa.float32()),  # 0–10
        pa.field("watch_seconds", pa.float32()),  # ≥ 0
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

ITEMS: Final = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("original_title", pa.string()),
        pa.field("release_date", pa.date32()),
        pa.field("runtime_minutes", pa.int32()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("keywords", pa.list_(pa.string())),
        pa.field("people", pa.list_(pa.string())),  # directors first, then the cast
        pa.field("collection_id", pa.int64()),
        pa.field("original_language", pa.string()),
        pa.field("overview", pa.string()),
        pa.field("poster_path", pa.string()),
        pa.field("backdrop_path", pa.string()),
        pa.field("adult", pa.bool_()),
    ]
)
