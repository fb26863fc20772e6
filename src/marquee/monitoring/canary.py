"""
The watch over experiments: a challenger that harms is taken away by itself; promoting it is for people.

Errors and slow answers are counted at every look, which is cheap. What users do is added up as often as
takes a small share of the database's time, and such looks are kept, of other experiments too. All tests
hold at all looks together, so that a canary as good as the champion is rolled back by mistake with a
probability of at most `ALPHA`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Literal

from sqlalchemy import Connection

from marquee.config import CanarySettings
from marquee.errors import ExperimentConflictError
from marquee.evaluation.sequential import compare, exceeds
from marquee.monitoring.outcomes import ALPHA, PRIMARY, ArmOutcome, Outcome, keep, measure
from marquee.store.postgres import Database
from marquee.store.repositories import experiments, outcomes
from marquee.store.repositories.experiments import Experiment
from marquee.store.repositories.outcomes import Health
from marquee.telemetry import get_logger

__all__ = ["Decision", "Watch", "decide", "limits_of"]

TESTS: Final = 3
"""Errors, latency and hit rate share `ALPHA`."""
SLOW_SHARE: Final = 0.05
"""A 95th percentile above the limit means that more answers than this are slower than the limit."""
RESTS: Final = 20.0
"""Between two sums of what users did, this many times what a sum takes."""
KEPT_SECONDS: Final = 10.0
"""Between two looks that are kept, at least."""


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What is to become of a canary.

    Attributes:
        safe: it is decided that it does not lose more than it may.
        reasons: why, in words.
    """

    action: Literal["keep", "roll_back"]
    reasons: tuple[str, ...]
    safe: bool = False


def limits_of(experiment: Experiment) -> CanarySettings:
    """The limits that a canary was started with."""
    return CanarySettings.model_validate(experiment.limits)


def decide(outcome: Outcome, limits: CanarySettings, *, started_at: datetime) -> Decision:
    """
    Keep a canary or roll it back.

    Args:
        outcome: the second arm is the canary.
        limits: what it may do.
    """
    champion, challenger = outcome.arms
    ill = _ill(challenger.health, limits)
    if ill:
        return Decision("roll_back", ill)
    least = min(champion.health.answers, challenger.health.answers)
    low, high = _kept(challenger, champion, limits) if least >= limits.min_answers else (None, None)
    if high is not None and high < 0:
        rates = [arm.moments(PRIMARY).ratio for arm in (challenger, champion)]
        reason = (
            f"its hit rate of {rates[0]:.4f} is more than {limits.hit_rate_drop:.0%} below the champion's "
            f"{rates[1]:.4f}"
        )
        return Decision("roll_back", (reason,))
    if low is not None and low > 0:
        reason = f"its hit rate is not more than {limits.hit_rate_drop:.0%} below the champion's"
        return Decision("keep", (reason,), safe=True)
    if outcome.measured_at - started_at > timedelta(hours=limits.max_hours):
        reason = f"{limits.max_hours:g} hours of clicks and watches are too few to tell whether it is as good"
        return Decision("roll_back", (reason,))
    return Decision("keep", ("not decided yet",))


class Watch:
    """
    Looks after the experiment that runs, if one does.

    Call `look` as often as harm must be noticed.

    Args:
        kept_seconds: between two looks that are kept, at least.
    """

    def __init__(self, database: Database, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._database = database
        self._kept_seconds = kept_seconds
        self._measured: int | None = None
        self._next_measure = 0.0
        self._next_kept = 0.0

    def look(self) -> Decision | None:
        """
        Decide on the canary that runs, and roll it back where that is the decision; only measure others.

        Returns:
            None where no canary runs, or another worker has just decided.
        """
        with self._database.begin() as connection:
            experiment = experiments.running(connection)
            if experiment is None:
                return None
            if experiment.kind != "canary":
                if self._is_due(experiment):
                    self._measure(connection, experiment)
                return None
            decision = self._decide(connection, experiment)
            if decision.action == "roll_back":
                try:
                    _roll_back(connection, experiment, decision)
                except ExperimentConflictError:
                    return None
        return decision

    def _decide(self, connection: Connection, experiment: Experiment) -> Decision:
        limits = limits_of(experiment)
        if not self._is_due(experiment):
            health = outcomes.health(connection, experiment, slow_ms=limits.max_latency_ms)
            ill = _ill(health[experiment.arms[1].name], limits)
            return Decision("roll_back", ill) if ill else Decision("keep", ("not decided yet",))
        return decide(self._measure(connection, experiment), limits, started_at=experiment.started_at)

    def _is_due(self, experiment: Experiment) -> bool:
        """Whether what users did is to be added up again."""
        return experiment.experiment_id != self._measured or monotonic() >= self._next_measure

    def _measure(self, connection: Connection, experiment: Experiment) -> Outcome:
        started = monotonic()
        outcome = measure(connection, experiment, slow_ms=limits_of(experiment).max_latency_ms)
        ended = monotonic()
        if experiment.experiment_id != self._measured or ended >= self._next_kept:
            keep(connection, outcome)
            self._next_kept = ended + self._kept_seconds
        self._measured, self._next_measure = experiment.experiment_id, ended + RESTS * (ended - started)
        return outcome


def _roll_back(connection: Connection, experiment: Experiment, decision: Decision) -> None:
    reason = "; ".join(decision.reasons)
    outcome = measure(connection, experiment, slow_ms=limits_of(experiment).max_latency_ms)
    keep(connection, outcome)
    experiments.finish(
        connection, experiment.experiment_id, "rolled_back", reason=reason, outcome=outcome.as_json()
    )
    get_logger().warning(
        "canary.rolled_back",
        experiment_id=experiment.experiment_id,
        bundle=experiment.arms[1].bundle,
        reason=reason,
    )


def _ill(health: Health, limits: CanarySettings) -> tuple[str, ...]:
    """What is wrong with how an arm answers."""
    if health.answers < limits.min_answers:
        return ()
    made = []
    if exceeds(health.errors, health.answers, limits.max_error_rate, alpha=ALPHA / TESTS):
        made.append(f"{health.error_rate:.1%} of its answers failed, above {limits.max_error_rate:.1%}")
    if exceeds(health.slow, health.answers, SLOW_SHARE, alpha=ALPHA / TESTS):
        made.append(
            f"{health.slow / health.answers:.1%} of its answers took longer than {limits.max_latency_ms:g} ms"
        )
    return tuple(made)


def _kept(
    challenger: ArmOutcome, champion: ArmOutcome, limits: CanarySettings
) -> tuple[float | None, float | None]:
    """Bounds of what it has beyond the share of the champion's hit rate that it must keep."""
    one, other = challenger.moments(PRIMARY), champion.moments(PRIMARY)
    if not one.x > 0 or not other.y > 0:
        return None, None
    found = compare(
        one,
        other,
        effect=limits.hit_rate_drop * other.ratio,
        alpha=ALPHA / TESTS,
        times=1 - limits.hit_rate_drop,
    )
    return found.always_low, found.always_high
