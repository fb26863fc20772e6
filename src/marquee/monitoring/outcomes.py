"""
What an experiment has shown so far.

One metric decides, the online hit rate of all users; its intervals hold at all looks together. The other
metrics and slices are for understanding: with many of them, one will look decided by chance.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection

from marquee.evaluation.sequential import Difference, Moments, SampleRatio, compare, sample_ratio
from marquee.store.repositories import experiment_looks, outcomes
from marquee.store.repositories.experiments import Experiment
from marquee.store.repositories.outcomes import METRICS, SLICES, Health, Measures, Metric, Slice

__all__ = ["ALPHA", "PRIMARY", "ArmOutcome", "Comparison", "Outcome", "Verdict", "keep", "measure", "plain"]

Verdict = Literal["better", "worse", "not decided yet"]

PRIMARY: Final[Metric] = "hit_rate"
"""The metric that decides."""
ALPHA: Final = 0.05
"""Probability that anything untrue is ever said of the metric that decides, in all looks at all arms."""
EFFECT: Final = 0.1
"""The relative difference that experiments are tuned to find soonest."""
NOTHING_KNOWN: Final = Difference(math.nan, math.nan, math.nan, -math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """One arm: how it answers, and what its users did, by slice."""

    name: str
    share: float
    health: Health
    measures: dict[Slice, Measures]

    @property
    def users(self) -> int:
        """Who has had an answer."""
        return self.measures["all"].users if "all" in self.measures else 0

    def moments(self, metric: Metric, part: Slice = "all") -> Moments:
        """The sums of a metric over the users of a slice."""
        found = self.measures.get(part)
        return found.metrics[metric] if found is not None else Moments(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of an arm against that of the first arm."""

    arm: str
    metric: Metric
    slice: Slice
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """What is decided, whenever one looks."""
        if self.difference.better:
            return "better"
        return "worse" if self.difference.worse else "not decided yet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What an experiment has shown.

    Attributes:
        arms: the first is what the others are compared with.
        sample_ratio: whether users are divided as planned; if not, believe nothing else.
    """

    experiment_id: int
    measured_at: datetime
    arms: tuple[ArmOutcome, ...]
    comparisons: tuple[Comparison, ...]
    sample_ratio: SampleRatio

    def arm(self, name: str) -> ArmOutcome:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def primary(self, arm: str) -> Comparison:
        """The comparison that decides about an arm."""
        return next(
            each
            for each in self.comparisons
            if (each.arm, each.metric, each.slice) == (arm, PRIMARY, SLICES[0])
        )

    @property
    def verdict(self) -> str:
        """What is decided, in words."""
        if self.sample_ratio.alarm:
            return "users are not divided as planned: the figures cannot be trusted"
        decided = [self.primary(arm.name) for arm in self.arms[1:]]
        told = [f"{each.arm} is {each.verdict}" for each in decided if each.verdict != "not decided yet"]
        return "; ".join(told) or "not decided yet"

    def as_json(self) -> dict[str, Any]:
        """Plain values, with None for what is not known."""
        arms = [
            {
                "name": arm.name,
                "share": arm.share,
                "users": arm.users,
                **asdict(arm.health),
                "error_rate": arm.health.error_rate,
                "viewed": arm.measures["all"].viewed if arm.measures else 0,
                "metrics": [
                    _estimate(metric, part, arm.moments(metric, part))
                    for part in SLICES
                    for metric in METRICS
                ],
            }
            for arm in self.arms
        ]
        comparisons = [
            {
                "arm": each.arm,
                "metric": each.metric,
                "slice": each.slice,
                **asdict(each.difference),
                "verdict": each.verdict,
            }
            for each in self.comparisons
        ]
        made = {
            "measured_at": self.measured_at.isoformat(),
            "verdict": self.verdict,
            "decides": PRIMARY,
            "arms": arms,
            "comparisons": comparisons,
            "sample_ratio": {**asdict(self.sample_ratio), "alarm": self.sample_ratio.alarm},
        }
        return {name: plain(value) for name, value in made.items()}


def measure(connection: Connection, experiment: Experiment, *, slow_ms: float) -> Outcome:
    """
    What an experiment has shown until now, or had when it ended.

    Args:
        slow_ms: longer answers count as slow.
    """
    health = outcomes.health(connection, experiment, slow_ms=slow_ms)
    found = outcomes.measures(connection, experiment)
    arms = tuple(
        ArmOutcome(
            arm.name,
            arm.share,
            health[arm.name],
            {part: found[arm.name, part] for part in SLICES if (arm.name, part) in found},
        )
        for arm in experiment.arms
    )
    alpha = ALPHA / (len(arms) - 1)
    comparisons = tuple(
        Comparison(arm.name, metric, part, _difference(arm, arms[0], metric, part, alpha))
        for arm in arms[1:]
        for part in SLICES
        for metric in METRICS
    )
    ratio = sample_ratio([arm.users for arm in arms], [arm.share for arm in arms])
    return Outcome(experiment.experiment_id, datetime.now(UTC), arms, comparisons, ratio)


def keep(connection: Connection, outcome: Outcome) -> None:
    """Remember what an experiment has shown until now."""
    comparisons = outcome.as_json()["comparisons"]
    experiment_looks.append(connection, outcome.experiment_id, outcome.measured_at, comparisons)


def plain(value: Any) -> Any:
    """A value as JSON has it: infinite and undefined numbers as None."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _difference(
    arm: ArmOutcome, reference: ArmOutcome, metric: Metric, part: Slice, alpha: float
) -> Difference:
    one, other = arm.moments(metric, part), reference.moments(metric, part)
    pooled = (one.y + other.y) / (one.x + other.x) if one.x + other.x else 0.0
    return compare(one, other, effect=EFFECT * pooled, alpha=alpha) if pooled > 0 else NOTHING_KNOWN


def _estimate(metric: Metric, part: Slice, moments: Moments) -> dict[str, Any]:
    low, high = moments.interval()
    return {
        "metric": metric,
        "slice": part,
        "value": moments.ratio,
        "low": low,
        "high": high,
        "users": moments.n,
    }
