"""Virtual users with latent tastes and a known truth."""

from marquee.simulate.audience import Audience, Simulation
from marquee.simulate.config import AudienceConfig, LiveConfig
from marquee.simulate.drift import DriftConfig
from marquee.simulate.truth import Truth
from marquee.simulate.world import World

__all__ = ["Audience", "AudienceConfig", "DriftConfig", "LiveConfig", "Simulation", "Truth", "World"]
