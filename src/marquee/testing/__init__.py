"""What a model of another package must pass to be served by Marquee; needs no pytest to import."""

from marquee.testing.conformance import RecommenderConformance
from marquee.testing.planted import PlantedTastes, planted_tastes

__all__ = ["PlantedTastes", "RecommenderConformance", "planted_tastes"]
