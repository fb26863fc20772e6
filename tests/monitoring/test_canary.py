"""A canary that harms is rolled back by itself, any other is kept."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from marquee.config import CanarySettings
from marquee.evaluation.sequential import Moments, SampleRatio
from marquee.monitoring.canary import Watch, decide
from marquee.monitoring.outcomes import ArmOutcome, Outcome
from marquee.pipelines.worker import run_worker
from marquee.store.repositories import experiments
from marquee.store.repositories.outcomes import Health, Measures

LIMITS = CanarySettings()
NOW = datetime(2026, 11, 3, tzinfo=UTC)
WELL = Health(answers=1_000, errors=0, slow=0, p95_ms=8.0)


def arm(name, rate, *, users=2_000, health=WELL, seed=0):
    """An arm whose users had five answers each."""
    hits = Moments.of(np.random.default_rng(seed).binomial(5, rate, users), np.full(users, 5))
    measures = Measures(name, "all", users, 5 * users, 0, {"hit_rate": hits})
    return ArmOutcome(name, 0.5, health, {"all": measures} if users else {})


def decision(challenger, *, champion=None, hours=1.0):
    arms = champion or arm("champion", 0.3), challenger
    outcome = Outcome(1, NOW, arms, (), SampleRatio(1.0, 1.0))
    return decide(outcome, LIMITS, started_at=NOW - timedelta(hours=hours))


def test_canary_as_good_as_the_champion_is_kept_and_called_safe():
    found = decision(arm("challenger", 0.3, users=8_000, seed=1))
    assert (found.action, found.safe) == ("keep", True)


def test_canary_of_whom_little_is_known_is_kept():
    found = decision(arm("challenger", 0.3, users=60))
    assert (found.action, found.safe) == ("keep", False)


def test_canary_that_fails_is_rolled_back():
    found = decision(arm("challenger", 0.3, health=Health(200, 20, 0, 8.0)))
    assert found.action == "roll_back"
    assert "10.0% of its answers failed" in found.reasons[0]


def test_canary_that_is_slow_is_rolled_back():
    found = decision(arm("challenger", 0.3, health=Health(200, 0, 40, 180.0)))
    assert found.action == "roll_back"
    assert "longer than 100 ms" in found.reasons[0]


def test_canary_that_nobody_likes_is_rolled_back():
    found = decision(arm("challenger", 0.2))
    assert found.action == "roll_back"
    assert "hit rate" in found.reasons[0]


def test_canary_slightly_below_the_champion_is_not_rolled_back():
    assert decision(arm("challenger", 0.29, seed=2)).action == "keep"


def test_canary_that_cannot_be_told_for_too_long_is_rolled_back():
    undecided = arm("challenger", 0.3, users=60)
    assert decision(undecided, hours=LIMITS.max_hours - 1).action == "keep"
    found = decision(undecided, hours=LIMITS.max_hours + 1)
    assert found.action == "roll_back"
    assert "too few" in found.reasons[0]


def test_canary_without_any_answer_is_rolled_back_in_the_end():
    nobody = arm("challenger", 0.3, users=0, health=Health(0, 0, 0, None))
    assert decision(nobody).action == "keep"
    assert decision(nobody, hours=LIMITS.max_hours + 1).action == "roll_back"


def test_safe_canary_may_stay_as_long_as_people_like():
    assert decision(arm("challenger", 0.32, users=8_000), hours=1_000).action == "keep"


def test_few_answers_decide_nothing():
    assert decision(arm("challenger", 0.3, users=60, health=Health(50, 50, 50, 900.0))).action == "keep"


def test_rare_errors_within_the_limit_are_no_reason():
    assert decision(arm("challenger", 0.3, health=Health(10_000, 180, 400, 90.0))).action == "keep"


@pytest.fixture
def canary(begin):
    return begin(0.5, kind="canary", limits=LIMITS.model_dump(), started_at=datetime.now(UTC))


def status(database, experiment):
    with database.begin() as connection:
        return experiments.get(connection, experiment.experiment_id)


def test_watch_does_nothing_while_no_canary_runs(database, begin):
    watch = Watch(database)
    assert watch.look() is None
    begin(kind="ab")
    assert watch.look() is None


def test_watch_rolls_back_a_failing_canary_and_says_why(database, canary, logs):
    watch = Watch(database)
    assert watch.look().action == "keep"
    now = datetime.now(UTC)
    for user in range(600):
        wrong = canary.arm_of(user).name == "challenger" and user % 3 == 0
        logs.show(canary, user, now, [1, 2], error="deadline" if wrong else None)
    logs.write(database)
    assert watch.look().action == "roll_back"  # at once: errors are counted at every look
    ended = status(database, canary)
    assert ended.status == "rolled_back"
    assert "answers failed" in ended.outcome["reason"]
    assert ended.outcome["arms"][1]["errors"] > 0
    assert watch.look() is None


def test_watch_keeps_a_healthy_canary(database, canary, logs):
    now = datetime.now(UTC)
    for user in range(400):
        request = logs.show(canary, user, now, [1, 2])
        logs.do(user, now, "watch", 1, seconds=600.0, request_id=request)
    logs.write(database)
    assert Watch(database).look().action == "keep"
    assert status(database, canary).status == "running"


def test_watch_rolls_back_a_canary_that_nobody_likes(database, canary, logs):
    now = datetime.now(UTC)
    random = np.random.default_rng(0)
    for user in range(1_500):
        rate = 0.5 if canary.arm_of(user).name == "champion" else 0.2
        logs.show(canary, user, now, [1, 2])
        logs.do(user, now, "watch", 1 if random.random() < rate else 9, seconds=600.0)
    logs.write(database)
    assert Watch(database).look().action == "roll_back"
    assert "hit rate" in status(database, canary).outcome["reason"]


def test_of_two_watches_one_rolls_back(database, canary, logs):
    for user in range(600):
        logs.show(canary, user, datetime.now(UTC), [1, 2], error="deadline")
    logs.write(database)
    assert [watch.look() is None for watch in (Watch(database), Watch(database))] == [False, True]


async def test_worker_watches_the_canary(database, settings, canary, logs):
    for user in range(600):
        logs.show(canary, user, datetime.now(UTC), [1, 2], error="deadline")
    logs.write(database)
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, stop, pipelines={}))
    try:
        async with asyncio.timeout(60):
            while status(database, canary).status == "running":
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await worker
    assert status(database, canary).status == "rolled_back"
