"""
The gate: whether a challenger may become champion, and why, from figures that others have measured.

It passes when

- its NDCG@10 is better: the 95 % interval of the paired difference lies above 0; or it is not worse by more
  than a margin (the interval lies above −margin · champion) and better on a second metric; or it is the
  champion's own recipe fitted on newer data,
- no slice of queries falls by more than a share, with an interval that leaves 0 out,
- its bundle is not too large and a single request not too slow,
- it behaves (`checks`).

A slice with few queries is reported, not judged. Nothing here reads a clock, a store or a setting.

Source:
    Schuirmann 1987 (non-inferiority by the interval); Breck et al. 2017, "The ML test score".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from marquee.evaluation.checks import Check
from marquee.evaluation.compare import Interval
from marquee.evaluation.results import Evaluation
from marquee.evaluation.slices import MIN_JUDGED_QUERIES, SLICES

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Comparison",
    "Contender",
    "GateLimits",
    "GateReport",
    "Measured",
    "Verdict",
    "as_plain",
    "decide",
    "undecided",
]

CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
"""The names of the two models in the evaluation that `decide` reads."""

METRIC: Final = "ndcg_at_10"
COVERAGE: Final = "coverage_at_10"
SLICE_LABELS: Final = {
    "last_1": "new users (histories cut to the last item)",
    "last_3": "new users (histories cut to the last 3 items)",
    "history_under_20": "light users (under 20 items)",
    "history_20_to_99": "users with 20 to 99 items",
    "history_100_up": "heavy users (100 items and more)",
    "tail_items": "tail items",
    "young_items": "recent items",
}

Verdict = Literal["passed", "refused", "waiting", "forced"]


@dataclass(frozen=True)
class GateLimits:
    """
    What a challenger must keep to.

    Attributes:
        margin: share of the champion's NDCG@10 that may be lost for a better second metric.
        second_metric: a metric per query of the evaluation, or `coverage_at_10`.
        slice_drop: share of the champion's NDCG@10 that a slice may lose.
        max_bundle_mib: size of its files.
        max_latency_ms: 95th percentile of single requests.
    """

    margin: float = 0.02
    second_metric: str = COVERAGE
    slice_drop: float = 0.1
    max_bundle_mib: float = 2048.0
    max_latency_ms: float = 50.0


@dataclass(frozen=True)
class Contender:
    """
    One side of the comparison.

    Attributes:
        version, digest: of its bundle; None for popularity that is counted on the spot.
    """

    model: str
    version: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Measured:
    """
    What was measured on the challenger's bundle.

    Attributes:
        bundle_mib: size of its files.
        latency_ms: 95th percentile of single requests; NaN where a check failed and none were made.
        checks: of its behaviour.
    """

    bundle_mib: float
    latency_ms: float
    checks: Sequence[Check] = ()


@dataclass(frozen=True)
class Comparison:
    """
    One metric of both, over the same queries.

    Attributes:
        part: `all` or a slice.
        challenger, champion, difference: means with their intervals; coverage, which is one figure per
            window, has none (NaN).
        judged: whether there are enough queries to say anything.
        better: the challenger is, with confidence (coverage: in every window).
        fell: a slice lost more than it may, with confidence.
    """

    metric: str
    part: str
    challenger: Interval
    champion: Interval
    difference: Interval
    judged: bool
    better: bool
    fell: bool = False

    def __str__(self) -> str:
        text = f"{self.challenger.mean:.4f} against {self.champion.mean:.4f}"
        if math.isfinite(self.difference.low):
            text += f", difference {self.difference.mean:+.4f} "
            text += f"({self.difference.low:+.4f} to {self.difference.high:+.4f})"
        return text


@dataclass(frozen=True)
class GateReport:
    """
    What the gate found.

    Attributes:
        verdict: `passed`, `refused`, `waiting` (for an operator) or `forced` (by one, whatever was found).
        reasons: in words: all that speaks against it, or what let it pass.
        notes: what was seen and not judged.
        ndcg_at_10, second_metric: None where the two could not be compared.
        slices: in the order of `slices.SLICES`.
        windows: names of the windows of the comparison.
        forced_reason: of the operator.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    challenger: Contender
    champion: Contender
    limits: GateLimits
    measured: Measured
    ndcg_at_10: Comparison | None = None
    second_metric: Comparison | None = None
    slices: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    forced_reason: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the challenger may serve now."""
        return self.verdict in ("passed", "forced")

    def forced(self, reason: str) -> "GateReport":
        """The same findings, overridden by an operator; one that passed stays passed."""
        return self if self.passed else replace(self, verdict="forced", forced_reason=reason)

    def waiting(self) -> "GateReport":
        """The same findings, to be approved by an operator; a refusal stays one."""
        return replace(self, verdict="waiting") if self.verdict == "passed" else self

    def figures(self) -> dict[str, float]:
        """The finite numbers by name, as a tracker takes them."""
        made = {"bundle_mib": self.measured.bundle_mib, "latency_ms": self.measured.latency_ms}
        for one in (self.ndcg_at_10, self.second_metric, *self.slices):
            if one is not None:
                name = one.metric if one.part == "all" else f"{one.part}/{one.metric}"
                made[name] = one.challenger.mean
                made[f"{name}_difference"] = one.difference.mean
        return {f"gate/{name}": value for name, value in made.items() if math.isfinite(value)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        made: dict[str, Any] = as_plain(asdict(self))
        return made


def decide(
    evaluation: Evaluation,
    challenger: Contender,
    champion: Contender,
    measured: Measured,
    limits: GateLimits,
    *,
    newer: str | None = None,
) -> GateReport:
    """
    Judge a challenger.

    Args:
        evaluation: of both recipes, under the names `CHALLENGER` and `CHAMPION`.
        challenger, champion: who they are.
        measured: on the challenger's bundle.
        limits: what it must keep to.
        newer: how much newer the challenger's data are, in words, where the two are of one recipe: then the
            evaluation cannot tell them apart, and being newer is being better.
    """
    compared = _compare(evaluation, limits)
    overall, second = compared["all"], _second(evaluation, limits)
    slices = tuple(compared[name] for name in SLICES if name in compared)
    against, support = _judge_accuracy(overall, second, limits, newer)
    against += [
        f"NDCG@10 of {SLICE_LABELS[one.part]} falls by {_fall(one):.0%}: {one}; "
        f"at most {limits.slice_drop:.0%} is allowed."
        for one in slices
        if one.fell
    ]
    against += _judge_measured(measured, limits)
    return GateReport(
        verdict="refused" if against else "passed",
        reasons=tuple(against or support),
        challenger=challenger,
        champion=champion,
        limits=limits,
        measured=measured,
        ndcg_at_10=overall,
        second_metric=second,
        slices=slices,
        notes=tuple(_notes(slices, limits)),
        windows=tuple(window.name for window in evaluation.windows),
    )


def undecided(
    why: str, challenger: Contender, champion: Contender, measured: Measured, limits: GateLimits
) -> GateReport:
    """The refusal of a challenger that could not be compared with the champion."""
    against = [f"They cannot be compared: {why}", *_judge_measured(measured, limits)]
    return GateReport("refused", tuple(against), challenger, champion, limits, measured)


def as_plain(value: Any) -> Any:
    """A report as JSON can hold it: lists for tuples, None for what is not finite."""
    if isinstance(value, Mapping):
        return {name: as_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _judge_accuracy(
    overall: Comparison, second: Comparison, limits: GateLimits, newer: str | None
) -> tuple[list[str], list[str]]:
    """What speaks against the challenger's lists, and for them."""
    if newer is not None:
        return [], [f"The champion's own recipe, fitted on newer data: {newer}.", f"NDCG@10 {overall}."]
    if not overall.judged:
        return [f"Only {overall.difference.n} queries; at least {MIN_JUDGED_QUERIES} are needed."], []
    if overall.better:
        return [], [f"NDCG@10 is better: {overall}."]
    lost = limits.margin * overall.champion.mean
    if overall.difference.low < -lost:
        return [f"NDCG@10 is not better, and may be worse by more than {limits.margin:.0%}: {overall}."], []
    if not second.better:
        return [
            f"NDCG@10 is neither better nor worse by more than {limits.margin:.0%}: {overall}; "
            f"and {second.metric} is not better: {second}."
        ], []
    return [], [
        f"NDCG@10 is not worse by more than {limits.margin:.0%}: {overall}.",
        f"{second.metric} is better: {second}.",
    ]


def _judge_measured(measured: Measured, limits: GateLimits) -> list[str]:
    against = []
    if measured.bundle_mib > limits.max_bundle_mib:
        against.append(
            f"The bundle has {measured.bundle_mib:.1f} MiB; at most {limits.max_bundle_mib:g} are allowed."
        )
    if measured.latency_ms > limits.max_latency_ms:
        against.append(
            f"A single request takes {measured.latency_ms:.1f} ms (95th percentile); "
            f"at most {limits.max_latency_ms:g} are allowed."
        )
    return against + [f"{check.name}: {check.found}." for check in measured.checks if not check.passed]


def _compare(evaluation: Evaluation, limits: GateLimits) -> dict[str, Comparison]:
    """NDCG@10 of both, overall and by slice, from one pass over the resamples."""
    one, other = (evaluation.results[name].metrics for name in (CHALLENGER, CHAMPION))
    parts = ["all", *(name for name in SLICES if name in one)]
    values = [(one[part][METRIC], other[part][METRIC]) for part in parts]
    columns = [column for a, b in values for column in (a, b, a - b)]
    intervals = evaluation.bootstrap.intervals(np.stack(columns, axis=1))
    return {
        part: _comparison(METRIC, part, intervals[3 * i : 3 * i + 3], limits) for i, part in enumerate(parts)
    }


def _second(evaluation: Evaluation, limits: GateLimits) -> Comparison:
    one, other = (evaluation.results[name] for name in (CHALLENGER, CHAMPION))
    if limits.second_metric == COVERAGE:
        a, b = one.coverage["all"], other.coverage["all"]
        own, its, difference = (_alone(float(values.mean()), len(values)) for values in (a, b, a - b))
        return Comparison(COVERAGE, "all", own, its, difference, judged=True, better=bool((a > b).all()))
    values = [result.metrics["all"][limits.second_metric] for result in (one, other)]
    columns = np.stack([values[0], values[1], values[0] - values[1]], axis=1)
    return _comparison(limits.second_metric, "all", evaluation.bootstrap.intervals(columns), limits)


def _comparison(metric: str, part: str, intervals: Sequence[Interval], limits: GateLimits) -> Comparison:
    """Of the challenger's interval, the champion's, and that of their difference."""
    challenger, champion, difference = intervals
    judged = difference.n >= MIN_JUDGED_QUERIES
    fell = (
        part != "all"
        and judged
        and difference.high < 0.0
        and difference.mean < -limits.slice_drop * champion.mean
    )
    return Comparison(
        metric, part, challenger, champion, difference, judged, judged and difference.above_zero, fell
    )


def _notes(slices: Sequence[Comparison], limits: GateLimits) -> list[str]:
    made = [
        f"NDCG@10 of {SLICE_LABELS[one.part]} may fall: {one}; the interval does not leave 0 out."
        for one in slices
        if one.judged and not one.fell and _fall(one) > limits.slice_drop
    ]
    few = [f"{SLICE_LABELS[one.part]} ({one.difference.n})" for one in slices if not one.judged]
    if few:
        made.append(f"Too few queries to judge: {', '.join(few)}.")
    return made


def _fall(one: Comparison) -> float:
    """The share of the champion's mean that is lost."""
    return -one.difference.mean / one.champion.mean if one.champion.mean > 0 else 0.0


def _alone(mean: float, n: int) -> Interval:
    return Interval(mean, math.nan, math.nan, n)
