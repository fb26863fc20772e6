"""Experiments are started and ended alike by whoever does it."""

from datetime import UTC, datetime

import numpy as np
import pytest

from marquee.config import CanarySettings
from marquee.errors import ExperimentConflictError, NoChampionError, NotFoundError, RegistryError
from marquee.monitoring.trials import WantedArm, outcome_of, start_canary, start_experiment, stop
from marquee.store.repositories import deployments, experiments

LIMITS = CanarySettings(min_answers=7)
BY = {"started_by": "me", "reason": "why"}


def put(connection, slot, version, letter):
    deployments.append(
        connection,
        slot,
        bundle=f"bundles/{version}",
        digest=letter * 64,
        model="ease",
        version=version,
        deployed_by="test",
        reason="test",
    )


@pytest.fixture
def deployed(database):
    """A champion `v1` and a challenger `v2`."""
    with database.begin() as connection:
        put(connection, "champion", "v1", "a")
        put(connection, "challenger", "v2", "b")


def wanted(*pairs):
    return [WantedArm(version, share) for version, share in pairs]


def test_canary_divides_users_between_champion_and_challenger(database, deployed):
    with database.begin() as connection:
        made = start_canary(connection, share=0.05, limits=LIMITS, **BY)
    assert [(arm.name, arm.share, arm.version) for arm in made.arms] == [
        ("champion", 0.95, "v1"),
        ("challenger", 0.05, "v2"),
    ]
    assert (made.kind, made.limits["min_answers"]) == ("canary", 7)


def test_canary_needs_a_champion_and_a_challenger(database):
    with pytest.raises(NoChampionError), database.begin() as connection:
        start_canary(connection, share=0.05, limits=LIMITS, **BY)


def test_champion_is_no_canary(database, deployed):
    with pytest.raises(RegistryError, match="champion already"), database.begin() as connection:
        start_canary(connection, version="ease/v1", share=0.05, limits=LIMITS, **BY)


@pytest.mark.parametrize("share", [0.0, 1.0, 5.0])
def test_share_outside_of_all_users_is_refused(database, deployed, share):
    with pytest.raises(ValueError, match="share"), database.begin() as connection:
        start_canary(connection, share=share, limits=LIMITS, **BY)


def test_arms_are_named_by_slot_or_version(database, deployed):
    with database.begin() as connection:
        made = start_experiment(connection, "t", wanted(("champion", 0.5), ("v2", 0.5)), limits=LIMITS, **BY)
    assert [(arm.name, arm.version) for arm in made.arms] == [("champion", "v1"), ("v2", "v2")]


def test_arms_of_one_version_make_an_a_a_test(database, deployed):
    pairs = wanted(("champion", 0.5), ("champion", 0.3), ("champion", 0.2))
    with database.begin() as connection:
        made = start_experiment(connection, "a/a", pairs, limits=LIMITS, **BY)
    assert [arm.name for arm in made.arms] == ["champion", "champion#2", "champion#3"]
    assert len({arm.digest for arm in made.arms}) == 1


def test_unknown_version_is_refused(database, deployed):
    with pytest.raises(NotFoundError, match="v9"), database.begin() as connection:
        start_experiment(connection, "t", wanted(("champion", 0.5), ("v9", 0.5)), limits=LIMITS, **BY)


def test_stopped_experiment_keeps_what_it_has_shown(database, deployed):
    with database.begin() as connection:
        made = start_canary(connection, share=0.5, limits=LIMITS, **BY)
        ended = stop(connection, made, stopped_by="me", reason="enough")
        champion = deployments.current(connection, "champion")
    assert (ended.status, ended.outcome["verdict"], ended.outcome["stopped_by"]) == (
        "stopped",
        "not decided yet",
        "me",
    )
    assert champion.version == "v1"
    with pytest.raises(ExperimentConflictError), database.begin() as connection:
        stop(connection, made, stopped_by="me", reason="again")


def test_arm_promoted_before_it_is_decided_is_forced(database, deployed):
    with database.begin() as connection:
        made = start_canary(connection, share=0.5, limits=LIMITS, **BY)
        ended = stop(connection, made, stopped_by="me", reason="I know", promote="challenger")
        champion = deployments.current(connection, "champion")
    assert ended.status == "promoted"
    assert (champion.version, champion.gate_report["verdict"]) == ("v2", "forced")
    assert champion.gate_report["experiment_id"] == made.experiment_id


def test_winner_that_is_promoted_has_passed(database, deployed, logs):
    with database.begin() as connection:
        made = start_experiment(connection, "t", wanted(("champion", 0.5), ("v2", 0.5)), limits=LIMITS, **BY)
    now, random = datetime.now(UTC), np.random.default_rng(0)
    for user in range(1_000):
        logs.show(made, user, now, [1, 2])
        hit = random.random() < (0.2 if made.arm_of(user).name == "champion" else 0.5)
        logs.do(user, now, "watch", 1 if hit else 9, seconds=600.0)
    logs.write(database)
    with database.begin() as connection:
        assert outcome_of(connection, made).verdict == "v2 is better"
        stop(connection, made, stopped_by="me", reason="better", promote="v2")
        champion = deployments.current(connection, "champion")
    assert (champion.version, champion.gate_report["verdict"]) == ("v2", "passed")


def test_promoting_the_champion_changes_nothing(database, deployed):
    with database.begin() as connection:
        made = start_canary(connection, share=0.5, limits=LIMITS, **BY)
        assert stop(connection, made, stopped_by="me", reason="stay", promote="champion").status == "stopped"
        assert [one.slot for one in deployments.every(connection)].count("champion") == 1
        assert experiments.running(connection) is None


def test_new_champion_reaches_everybody_at_once(database, deployed):
    with database.begin() as connection:
        made = start_canary(connection, share=0.5, limits=LIMITS, **BY)
        put(connection, "champion", "v1", "a")  # the same again changes nothing
        assert experiments.running(connection) == made
        put(connection, "champion", "v3", "c")
        assert experiments.running(connection) is None
        ended = experiments.get(connection, made.experiment_id)
    assert (ended.status, ended.outcome["reason"]) == ("stopped", "the champion changed: test")
