"""The gate on planted figures: who passes, who does not, and what is said."""

import json

import numpy as np
import pytest

from marquee.data.split import WindowSummary
from marquee.evaluation.checks import Check
from marquee.evaluation.gate import (
    CHALLENGER,
    CHAMPION,
    Contender,
    GateLimits,
    GateReport,
    Measured,
    decide,
    undecided,
)
from marquee.evaluation.predictor_gate import PredictorLimits, decide_predictor
from marquee.evaluation.results import Evaluation, ModelResult

SIDES = Contender("ease", "2", "b" * 64), Contender("popularity")
FINE = Measured(1.0, 2.0, (Check("sound answers", True, "all of them"),))
QUERIES = 400


def side(
    shift: float = 0.0,
    *,
    coverage: float = 0.5,
    slices: dict[str, float] | None = None,
    noise: float = 0.02,
    seed: int = 0,
    n: int = QUERIES,
    few: int = 0,
) -> ModelResult:
    """A model whose NDCG@10 is the champion's plus a shift, in slices plus another."""
    base = np.random.default_rng(99).uniform(0.1, 0.5, n)
    own = np.random.default_rng(seed).normal(0.0, noise, n)
    metrics = {"all": {"ndcg_at_10": base + own + shift, "recall_at_20": base + shift}}
    for name, other in (slices or {}).items():
        values = base + own + other
        values[few or n :] = np.nan
        metrics[name] = {"ndcg_at_10": values}
    return ModelResult("x", "model", metrics, {"all": np.array([coverage, coverage + 0.01])}, 0, 0.0, 0.0)


def judged(challenger: ModelResult, champion: ModelResult | None = None, **changes) -> GateReport:
    champion = champion if champion is not None else side(slices=dict.fromkeys(challenger.metrics, 0.0))
    n = len(challenger.metrics["all"]["ndcg_at_10"])
    evaluation = Evaluation(
        "rolling",
        "test",
        [WindowSummary(f"rolling-{i}", False, 100, 10, n // 2, n, 0) for i in range(2)],
        np.arange(n) % max(n // 2, 1),
        np.repeat([0, 1], [n // 2, n - n // 2]),
        {CHALLENGER: challenger, CHAMPION: champion},
    )
    given = {"measured": FINE, "limits": GateLimits(), **changes}
    return decide(evaluation, *SIDES, given.pop("measured"), given.pop("limits"), **given)


def test_better_challenger_passes_with_its_numbers():
    report = judged(side(0.02, seed=1))
    assert report.verdict == "passed"
    assert report.ndcg_at_10.difference.low > 0
    assert "NDCG@10 is better" in report.reasons[0]
    assert f"{report.ndcg_at_10.difference.mean:+.4f}" in report.reasons[0]


def test_worse_challenger_is_refused_with_the_reason():
    report = judged(side(-0.05, seed=1))
    assert report.verdict == "refused"
    assert report.reasons[0].startswith("NDCG@10 is not better, and may be worse by more than 2%")


def test_equal_challenger_passes_only_with_a_better_second_metric():
    equal, same = side(seed=1, noise=0.001), side(noise=0.001)
    assert judged(equal, same).verdict == "refused"
    wider = side(seed=1, noise=0.001, coverage=0.6)
    report = judged(wider, same)
    assert report.verdict == "passed"
    assert "coverage_at_10 is better" in report.reasons[1]
    recall = GateLimits(second_metric="recall_at_20")
    assert judged(wider, same, limits=recall).verdict == "refused"  # of that it has no more


def test_margin_is_of_the_interval_not_of_the_mean():
    noisy = side(seed=1, noise=0.2, coverage=0.9)
    report = judged(noisy)
    assert abs(report.ndcg_at_10.difference.mean) < 0.05
    assert report.verdict == "refused"
    assert judged(noisy, limits=GateLimits(margin=0.5)).verdict == "passed"


def test_coverage_must_be_greater_in_every_window():
    champion = side(noise=0.001)
    challenger = side(seed=1, noise=0.001)
    challenger.coverage["all"][:] = champion.coverage["all"] + [0.2, -0.001]
    assert judged(challenger, champion).verdict == "refused"


def test_slice_that_falls_is_named_and_refused():
    report = judged(side(0.05, seed=1, slices={"last_1": -0.1, "tail_items": 0.0}))
    assert report.verdict == "refused"
    assert len(report.reasons) == 1
    assert "new users (histories cut to the last item) falls by 3" in report.reasons[0]
    assert judged(side(0.05, seed=1, slices={"last_1": -0.1}), limits=GateLimits(slice_drop=0.5)).passed


def test_slice_with_few_queries_is_reported_not_judged():
    champion = side(slices={"young_items": 0.0}, few=40)
    report = judged(side(0.05, seed=1, slices={"young_items": -0.2}, few=40), champion)
    assert report.verdict == "passed"
    assert report.notes == ("Too few queries to judge: recent items (40).",)
    assert [one.part for one in report.slices] == ["young_items"]


def test_fall_that_may_be_noise_is_noted():
    report = judged(side(0.05, seed=1, slices={"last_3": -0.04}, noise=0.5, few=60))
    assert "may fall" in report.notes[0]
    assert not any("falls by" in reason for reason in report.reasons)


def test_few_queries_in_all_are_no_evidence():
    few = judged(side(0.2, seed=1, n=40), side(n=40))
    assert few.reasons == ("Only 40 queries; at least 50 are needed.",)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (Measured(3000.0, 2.0), "The bundle has 3000.0 MiB; at most 2048 are allowed."),
        (Measured(1.0, 80.0), "A single request takes 80.0 ms (95th percentile); at most 50 are allowed."),
        (Measured(1.0, 2.0, (Check("order", False, "3 of 9 lists change"),)), "order: 3 of 9 lists change."),
    ],
)
def test_size_latency_and_behaviour_can_each_refuse(measured: Measured, said: str):
    for changes in ({}, {"newer": "by an hour"}):
        report = judged(side(0.1, seed=1), measured=measured, **changes)
        assert report.verdict == "refused"
        assert report.reasons == (said,)


def test_own_recipe_on_newer_data_passes_where_nothing_can_be_told_apart():
    same = side()
    assert judged(same, same).verdict == "refused"
    report = judged(same, same, newer="up to today")
    assert report.verdict == "passed"
    assert report.reasons[0] == "The champion's own recipe, fitted on newer data: up to today."


def test_force_and_waiting_change_the_verdict_and_keep_the_findings():
    refused, passed = judged(side(-0.05, seed=1)), judged(side(0.05, seed=1))
    forced = refused.forced("the old one is broken")
    assert (forced.verdict, forced.passed, forced.forced_reason) == ("forced", True, "the old one is broken")
    assert forced.reasons == refused.reasons
    assert passed.forced("no need") == passed
    assert passed.waiting().verdict == "waiting"
    assert refused.waiting() == refused


def test_report_is_json_and_says_who_was_compared():
    report = judged(side(0.02, seed=1, slices={"last_1": 0.0, "young_items": 0.0}, few=0)).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["challenger"] == {"model": "ease", "version": "2", "digest": "b" * 64}
    assert report["champion"] == {"model": "popularity", "version": None, "digest": None}
    assert report["limits"]["slice_drop"] == 0.1
    assert report["second_metric"]["difference"]["low"] is None  # coverage has no interval
    assert report["windows"] == ["rolling-0", "rolling-1"]


def test_figures_for_the_tracker_are_finite_numbers():
    figures = judged(side(0.02, seed=1, slices={"last_1": 0.0})).figures()
    assert {"gate/ndcg_at_10", "gate/ndcg_at_10_difference", "gate/last_1/ndcg_at_10"} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())


def test_what_cannot_be_compared_is_refused_and_may_be_forced():
    report = undecided("there is no query.", *SIDES, Measured(1.0, 80.0), GateLimits())
    assert report.verdict == "refused"
    assert report.reasons[0] == "They cannot be compared: there is no query."
    assert len(report.reasons) == 2
    assert report.forced("first model").to_dict()["verdict"] == "forced"


def test_good_predictor_passes():
    report = decide_predictor({"test_accuracy": 0.99, "test_loss": 0.02}, 3.0, PredictorLimits())
    assert report.verdict == "passed"
    assert report.reasons[0] == "Test accuracy 0.9900, ≥ 0.9."


@pytest.mark.parametrize(
    ("metrics", "latency", "said"),
    [
        ({"test_accuracy": 0.5, "test_loss": 0.02}, 3.0, "Test accuracy 0.5000; it must be ≥ 0.9."),
        ({"test_accuracy": 0.99, "test_loss": 2.0}, 3.0, "Test cross-entropy 2.0000 nats; it must be ≤ 0.5."),
        ({"test_accuracy": 0.99, "test_loss": 0.02}, 90.0, "A prediction takes 90.0 ms; it must be ≤ 50."),
        ({"test_loss": 0.02}, 3.0, "Test accuracy nan; it must be ≥ 0.9."),
    ],
)
def test_bad_predictor_is_refused_with_the_reason(metrics, latency, said):
    report = decide_predictor(metrics, latency, PredictorLimits())
    assert report.verdict == "refused"
    assert report.reasons == (said,)
    json.dumps(report.to_dict(), allow_nan=False)
