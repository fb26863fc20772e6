"""Virtual users with latent tastes and a known truth."""

from marquee.simulate.audience import Audience, Simulation
from marquee.simulate.config import AudienceConfig
from marquee.simulate.truth import Truth

__all__ = ["Audience", "AudienceConfig", "Simulation", "Truth"]
