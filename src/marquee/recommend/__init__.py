"""From a history to a list: the object that evaluation, batch inference and requests share."""

from marquee.recommend.pipeline import RecommendationPipeline

__all__ = ["RecommendationPipeline"]
