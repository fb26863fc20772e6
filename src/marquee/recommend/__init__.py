"""From a history to a list: the object that evaluation, batch inference and requests share."""

from marquee.recommend.editorial import Editorial
from marquee.recommend.explain import Explanation, Reason, explain
from marquee.recommend.filters import Filters
from marquee.recommend.pipeline import RecommendationPipeline, RecommendedItems
from marquee.recommend.similar import SimilarItems

__all__ = [
    "Editorial",
    "Explanation",
    "Filters",
    "Reason",
    "RecommendationPipeline",
    "RecommendedItems",
    "SimilarItems",
    "explain",
]
