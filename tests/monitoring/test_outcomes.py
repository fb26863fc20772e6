"""What PostgreSQL adds up is what a plain loop over the logs finds."""

import json
from datetime import timedelta

import numpy as np
import pytest

from marquee.evaluation.off_policy import places, snips
from marquee.evaluation.sequential import Moments
from marquee.monitoring.outcomes import PRIMARY, measure
from marquee.recommend.explore import explore
from marquee.store.repositories import outcomes
from marquee.store.repositories.outcomes import METRICS, SLICES

DAY = timedelta(hours=24)
SLOW_MS = 50.0


@pytest.fixture
def random_logs(database, begin, logs, hours):
    """Answers and events of all kinds around an experiment, and the experiment."""
    experiment = begin(0.4)
    random = np.random.default_rng(0)
    for _ in range(400):
        user = int(random.integers(40))
        served_at = hours(random.uniform(0, 72))
        items = random.choice(12, 4, replace=False).tolist()
        request = logs.show(
            experiment,
            user,
            served_at,
            items,
            viewed=bool(random.random() < 0.7),
            duration_ms=float(random.gamma(2, 20)),
            error="deadline" if random.random() < 0.1 else None,
        )
        if random.random() < 0.3:
            logs.do(user, served_at, "click", int(random.integers(12)), request_id=request)
        if random.random() < 0.1:  # somebody else's click does not count
            logs.do(user + 1, served_at, "click", items[0], request_id=request)
    for _ in range(700):
        user, at, item = int(random.integers(45)), hours(random.uniform(-30, 80)), int(random.integers(12))
        if user % 3 == 0 and at < hours(0):
            continue  # a third are new
        match random.integers(5):
            case 0:
                rating = float(random.integers(0, 11)) if random.random() < 0.5 else None
                logs.do(user, at, "watch", item, seconds=float(random.integers(0, 9000)), rating=rating)
            case 1:
                logs.do(user, at, "rate", item, rating=float(random.integers(0, 11)))
            case 2:
                logs.do(user, at, "like", item)
            case 3:
                logs.do(user, at, "hide", item)
            case 4:
                key = logs.do(user, at, "watch", item, seconds=100.0)
                logs.do(user, at + timedelta(minutes=1), "undo", item, revokes=key)
    rows = list(logs.shown), list(logs.events)
    logs.write(database)
    return experiment, *rows


def expected(experiment, shown, events):
    """(arm, slice) → metric → list of (numerator, denominator) of each user, and their answers and views."""
    undone = {event["revokes"] for event in events} - {None}
    counted = [event for event in events if event["event"] != "undo" and event["event_key"] not in undone]
    counted.sort(key=lambda event: event["occurred_at"])
    users = {}
    for user in {row["user_id"] for row in shown}:
        lists = [row for row in shown if row["user_id"] == user]
        own = [event for event in counted if event["user_id"] == user]
        clicked = hits = 0
        for row in lists:
            clicked += any(
                e["event"] == "click"
                and e["request_id"] == row["request_id"]
                and e["item_id"] in row["item_ids"]
                for e in own
            )
            following = [
                e
                for e in own
                if row["served_at"] <= e["occurred_at"] <= row["served_at"] + DAY
                and e["event"] in ("watch", "like", "rate")
                and (e["rating"] is None or e["rating"] > 4)
            ]
            hits += bool(following) and following[0]["item_id"] in row["item_ids"]
        first = min(row["served_at"] for row in lists)
        watches = [e for e in own if e["event"] == "watch" and e["occurred_at"] >= first]
        seconds_shown = sum(
            e["watch_seconds"]
            for e in watches
            if any(
                row["served_at"] <= e["occurred_at"] <= row["served_at"] + DAY
                and e["item_id"] in row["item_ids"]
                for row in lists
            )
        )
        has_history = any(
            e["user_id"] == user and e["event"] != "undo" and e["occurred_at"] < experiment.started_at
            for e in events
        )
        for part in ("all", "history" if has_history else "new"):
            arm = users.setdefault((experiment.arm_of(user).name, part), [])
            arm.append(
                {
                    "hits": hits,
                    "clicked": clicked,
                    "answers": len(lists),
                    "viewed": sum(row["viewed_at"] is not None for row in lists),
                    "seconds": sum(e["watch_seconds"] for e in watches),
                    "seconds_shown": seconds_shown,
                }
            )
    return users


def test_sums_are_those_of_a_loop_over_the_logs(database, random_logs, hours):
    experiment, shown, events = random_logs
    with database.begin() as connection:
        found = outcomes.measures(connection, experiment, until=hours(1000))
    wanted = expected(experiment, shown, events)
    assert found.keys() == wanted.keys()
    assert {part for _, part in found} == set(SLICES)
    for group, users in wanted.items():
        measures = found[group]
        assert measures.users == len(users)
        assert measures.answers == sum(user["answers"] for user in users)
        assert measures.viewed == sum(user["viewed"] for user in users)
        for metric, (y, x) in METRICS.items():
            oracle = Moments.of([user[y] for user in users], [user[x] for user in users])
            for name in Moments.__dataclass_fields__:
                assert getattr(measures.metrics[metric], name) == pytest.approx(getattr(oracle, name)), metric
    assert all(measures.metrics["hit_rate"].y > 0 for measures in found.values())
    assert all(measures.metrics["watch_share"].y > 0 for measures in found.values())


def test_errors_and_durations_are_those_of_each_arm(database, random_logs):
    experiment, shown, _ = random_logs
    with database.begin() as connection:
        found = outcomes.health(connection, experiment, slow_ms=SLOW_MS)
    for arm in experiment.arms:
        rows = [row for row in shown if row["arm"] == arm.name]
        durations = np.array([row["duration_ms"] for row in rows])
        health = found[arm.name]
        assert health.answers == len(rows)
        assert health.errors == sum(row["error"] is not None for row in rows)
        assert health.slow == (durations > SLOW_MS).sum()
        assert health.p95_ms == pytest.approx(np.percentile(durations, 95), rel=1e-5)


def test_nothing_after_the_moment_asked_for_is_counted(database, random_logs, hours):
    experiment, shown, events = random_logs
    until = hours(30)
    with database.begin() as connection:
        found = outcomes.measures(connection, experiment, until=until)
    wanted = expected(
        experiment,
        [row for row in shown if row["served_at"] <= until],
        [event for event in events if event["occurred_at"] <= until or event["event"] in ("undo", "click")],
    )
    for group, users in wanted.items():
        assert found[group].metrics["hit_rate"].y == sum(user["hits"] for user in users)
        assert found[group].metrics["watch_share"].y == sum(user["seconds_shown"] for user in users)


def test_outcome_of_nothing_is_undecided_and_is_json(database, begin):
    experiment = begin()
    with database.begin() as connection:
        outcome = measure(connection, experiment, slow_ms=SLOW_MS)
    assert outcome.verdict == "not decided yet"
    assert {each.verdict for each in outcome.comparisons} == {"not decided yet"}
    assert json.loads(json.dumps(outcome.as_json(), allow_nan=False))["arms"][0]["users"] == 0


def test_outcome_is_json_without_infinities(database, random_logs):
    experiment, *_ = random_logs
    with database.begin() as connection:
        outcome = measure(connection, experiment, slow_ms=SLOW_MS)
    made = json.loads(json.dumps(outcome.as_json(), allow_nan=False))
    assert made["comparisons"][0]["always_low"] is None  # too few users
    assert {row["metric"] for row in made["arms"][0]["metrics"]} == set(METRICS)


def simulated(experiment, logs, hours, rates, *, users=900, visits=6, seed=0):
    """Users who next watch a film of the list shown with the probability of their arm."""
    random = np.random.default_rng(seed)
    for user in range(users):
        arm = experiment.arm_of(user).name
        for visit in range(visits):
            at = hours(visit * 25 + random.uniform(0, 1))
            request = logs.show(experiment, user, at, [1, 2, 3], viewed=True)
            hit = random.random() < rates[arm]
            if hit:
                logs.do(user, at + timedelta(minutes=1), "click", 1, request_id=request)
            logs.do(user, at + timedelta(minutes=2), "watch", 1 if hit else 9, seconds=3000.0)


def test_planted_winner_wins(database, begin, logs, hours):
    experiment = begin()
    simulated(experiment, logs, hours, {"champion": 0.2, "challenger": 0.3})
    logs.write(database)
    with database.begin() as connection:
        outcome = measure(connection, experiment, slow_ms=SLOW_MS)
    primary = outcome.primary("challenger")
    assert primary.verdict == "better"
    assert primary.difference.always_low < 0.1 < primary.difference.always_high
    assert outcome.verdict == "challenger is better"
    assert {each.verdict for each in outcome.comparisons if each.slice == "all"} == {"better"}
    assert not outcome.sample_ratio.alarm


def test_equal_arms_are_not_called(database, begin, logs, hours):
    experiment = begin()
    simulated(experiment, logs, hours, {"champion": 0.25, "challenger": 0.25}, seed=1)
    logs.write(database)
    with database.begin() as connection:
        for day in range(1, 8):
            found = outcomes.measures(connection, experiment, until=hours(day * 25))
            moments = [found[arm.name, "all"].metrics[PRIMARY] for arm in experiment.arms]
            assert all(each.n > 300 for each in moments)
        outcome = measure(connection, experiment, slow_ms=SLOW_MS)
    assert outcome.verdict == "not decided yet"


def test_arm_that_loses_its_users_makes_the_figures_untrusted(database, begin, logs, hours):
    experiment = begin()
    for user in range(2000):
        if experiment.arm_of(user).name == "champion" or user % 3:
            logs.show(experiment, user, hours(1), [1, 2])
    logs.write(database)
    with database.begin() as connection:
        outcome = measure(connection, experiment, slow_ms=SLOW_MS)
    assert outcome.sample_ratio.alarm
    assert "cannot be trusted" in outcome.verdict


def test_policy_is_worth_what_its_lists_would_have_earned(database, begin, logs, hours):
    """Logged by exploration, the estimate of another policy has the truth in its interval."""
    experiment = begin()
    random = np.random.default_rng(5)
    n = 1_500
    popular, pool = np.tile([1, 2, 3], (n, 1)), np.tile([11, 12, 13, 14], (n, 1))
    chance = {1: 0.2, 2: 0.2, 3: 0.2, 11: 0.1, 12: 0.3, 13: 0.6, 14: 0.1}
    shown, propensities, _ = explore(popular, pool, 1 / 3, random)
    for row in range(n):
        items = shown[row].tolist()
        request = logs.show(
            experiment, row % 300, hours(row / 60), items, propensities=propensities[row].tolist()
        )
        for item in items:
            if random.random() < chance[item]:
                logs.do(row % 300, hours(row / 60), "click", item, request_id=request)
    logs.show(experiment, 7, hours(1), [1, 2])  # without propensities
    logs.write(database)

    found = outcomes.logged(database, since=hours(0), until=hours(1000))
    assert (found.item_ids == shown).all()
    assert found.propensities == pytest.approx(propensities)
    other = np.tile([13, 1, 2], (n, 1))
    value = snips(found.clicks, found.propensities, places(found.item_ids, other), found.user_ids)
    truth = chance[13] + chance[1] + chance[2]
    assert value.low <= truth <= value.high
    assert value.high - value.low < 0.4
    assert found.clicks.sum() == pytest.approx(sum(chance[int(i)] for i in shown.ravel()), rel=0.1)
    assert outcomes.logged(database, since=hours(900), until=hours(1000)).item_ids.shape == (0, 0)
