"""The gate of the predictor: accurate, sure of itself for the right reasons, and quick."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from marquee.evaluation.gate import Verdict, as_plain

__all__ = ["PredictorLimits", "PredictorReport", "decide_predictor"]


@dataclass(frozen=True)
class PredictorLimits:
    """
    What a predictor must keep to.

    Attributes:
        min_accuracy: on rows it has not learnt from.
        max_cross_entropy: of the same, in nats.
        max_latency_ms: 95th percentile of single predictions.
    """

    min_accuracy: float = 0.9
    max_cross_entropy: float = 0.5
    max_latency_ms: float = 50.0


@dataclass(frozen=True)
class PredictorReport:
    """
    What the gate of the predictor found.

    Attributes:
        verdict: `passed`, `refused`, or `forced` by an operator.
        reasons: in words: all that speaks against it, or what let it pass.
        accuracy, cross_entropy, latency_ms: as measured; NaN where there was nothing to measure on.
        forced_reason: of the operator.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    accuracy: float
    cross_entropy: float
    latency_ms: float
    limits: PredictorLimits
    forced_reason: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the predictor may serve now."""
        return self.verdict in ("passed", "forced")

    def forced(self, reason: str) -> "PredictorReport":
        """The same findings, overridden by an operator; one that passed stays passed."""
        return self if self.passed else replace(self, verdict="forced", forced_reason=reason)

    def figures(self) -> dict[str, float]:
        """The finite numbers by name, as a tracker takes them."""
        made = {
            "accuracy": self.accuracy,
            "cross_entropy": self.cross_entropy,
            "latency_ms": self.latency_ms,
        }
        return {f"gate/{name}": value for name, value in made.items() if math.isfinite(value)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        made: dict[str, Any] = as_plain(asdict(self))
        return made


def decide_predictor(
    metrics: Mapping[str, float], latency_ms: float, limits: PredictorLimits
) -> PredictorReport:
    """
    Judge a predictor.

    Args:
        metrics: `test_accuracy` and `test_loss` (nats), as its training reported them.
        latency_ms: 95th percentile of single predictions.
        limits: what it must keep to.
    """
    accuracy = float(metrics.get("test_accuracy", math.nan))
    cross_entropy = float(metrics.get("test_loss", math.nan))
    # Written so that NaN, which compares as false with everything, is refused.
    rules = [
        (accuracy >= limits.min_accuracy, f"Test accuracy {accuracy:.4f}", f"≥ {limits.min_accuracy:g}"),
        (
            cross_entropy <= limits.max_cross_entropy,
            f"Test cross-entropy {cross_entropy:.4f} nats",
            f"≤ {limits.max_cross_entropy:g}",
        ),
        (
            latency_ms <= limits.max_latency_ms,
            f"A prediction takes {latency_ms:.1f} ms",
            f"≤ {limits.max_latency_ms:g}",
        ),
    ]
    against = [f"{found}; it must be {limit}." for kept, found, limit in rules if not kept]
    support = [f"{found}, {limit}." for _, found, limit in rules]
    return PredictorReport(
        "refused" if against else "passed",
        tuple(against or support),
        accuracy,
        cross_entropy,
        latency_ms,
        limits,
    )
