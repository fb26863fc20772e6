"""Columns, ids and tables that every other part speaks in."""

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import Event
from marquee.data.vocabulary import Vocabulary

__all__ = ["Catalog", "Event", "Histories", "Interactions", "RankedItems", "Vocabulary", "top_k"]
