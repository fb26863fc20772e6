"""The size and habits of a virtual audience, and how it visits an API."""

import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np

__all__ = ["AudienceConfig", "LiveConfig"]


@dataclass(frozen=True)
class AudienceConfig:
    """
    Size, habits and noise of a virtual audience.

    Attributes:
        users: number of users, ≥ 1.
        interactions_per_user: mean interactions of a user, > 0; no user has more than there are films.
        days: length of the window, ≥ 1.
        end: end of the window (exclusive), microseconds since 1970-01-01 UTC.
        seed: ≥ 0; the same seed gives the same bytes.
        first_user_id: users are numbered from here on.
        activity_spread: standard deviation of the logarithm of a user's activity (log-normal).
        taste_sharpness: how far favourites stand out: tastes are exponential draws to this power,
            normalised. 1 is a flat Dirichlet; at 4 the favourite genre holds about half of the taste.
        era_share: weight of era against genre in affinity, in [0, 1].
        exposures: films that a user is shown per film watched, ≥ 1.
        browse_share: share of exposures from the shelves of favourite genres rather than from the whole
            catalogue, in [0, 1].
        popularity_exponent: exposure grows with popularity to this power; 0 shows all films alike.
        exposure_floor: share of each shelf given evenly to all of its films, in [0, 1].
        choice_sharpness: weight of affinity against Gumbel noise in the choice; 0 chooses blindly.
        position_bias: attention falls as (1 + position) to the minus this power.
        rewatch_rate: probability that an interaction repeats a film the user has already chosen.
        weekend_factor: activity of a Saturday or Sunday against that of another day.
        utc_offset_hours: offsets of the users' clocks from UTC, one drawn per user.
        watch_noise: standard deviation of the logit of the share of a film that is watched.
        rating_noise: standard deviation of a rating around its expectation, in points of 10.
        rating_bias_spread: standard deviation of a user's leniency, in points of 10.
    """

    users: int = 300
    interactions_per_user: float = 9.7
    days: int = 90
    end: int = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    seed: int = 0
    first_user_id: int = 1
    activity_spread: float = 0.8
    taste_sharpness: float = 4.0
    era_share: float = 0.25
    exposures: int = 4
    browse_share: float = 0.5
    popularity_exponent: float = 0.5
    exposure_floor: float = 0.2
    choice_sharpness: float = 8.0
    position_bias: float = 0.3
    rewatch_rate: float = 0.0
    weekend_factor: float = 1.6
    utc_offset_hours: tuple[float, ...] = (-8.0, -5.0, 0.0, 1.0, 5.5, 9.0)
    watch_noise: float = 1.0
    rating_noise: float = 1.0
    rating_bias_spread: float = 0.6

    def __post_init__(self) -> None:
        at_least = {"users": 1, "days": 1, "exposures": 1, "seed": 0, "first_user_id": 0, "end": 0}
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        for name in ("era_share", "browse_share", "exposure_floor", "rewatch_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        for name in ("interactions_per_user", "taste_sharpness", "weekend_factor"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive and finite, not {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not 0 <= value < np.inf:
                raise ValueError(f"{field.name} must be finite and not negative, not {value}")
        if not self.utc_offset_hours or not all(abs(hours) <= 14 for hours in self.utc_offset_hours):
            raise ValueError(f"utc_offset_hours must be one or more of -14 … 14, not {self.utc_offset_hours}")


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """
    How an audience visits.

    Attributes:
        users: who visit, the first of the audience, one as often as another.
        rate: visits per second, as far as the API keeps up.
        seconds: for how long new visits begin.
        seed: of what visitors do; their tastes are those of the audience.
        k: films asked for.
        outside: affinity of a film that would be chosen as often as something else.
        elsewhere: probability that who chooses nothing of the list watches another film.
        rates: probability that a film watched is rated.
        concurrency: visits under way at most.
        in_turn: whether everybody comes once before anybody comes again; else who comes is left to chance.
    """

    users: int = 100
    rate: float = 20.0
    seconds: float = 30.0
    seed: int = 0
    k: int = 10
    outside: float = 0.6
    elsewhere: float = 0.5
    rates: float = 0.3
    concurrency: int = 32
    in_turn: bool = True

    def __post_init__(self) -> None:
        for name in ("users", "rate", "seconds", "k", "concurrency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    @property
    def visits(self) -> int:
        """How many."""
        return max(1, math.floor(self.rate * self.seconds))
