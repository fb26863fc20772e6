"""Users are divided as planned and stay where they are; one experiment runs at a time."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from marquee.errors import ExperimentConflictError, NotFoundError
from marquee.store.repositories import experiments
from marquee.store.repositories.experiments import Arm

ARMS = (
    Arm("champion", 0.7, "bundles/a", "a" * 64, "ease", "1"),
    Arm("challenger", 0.2, "bundles/b", "b" * 64, "ials", "2"),
    Arm("third", 0.1, "bundles/c", "c" * 64, "ials", None),
)


def begin(connection, *, name="test", arms=ARMS, salt=None):
    return experiments.start(connection, name, "ab", arms, started_by="me", reason="why", salt=salt)


def test_users_stay_in_their_arm_and_fill_the_shares(database):
    with database.begin() as connection:
        made = begin(connection, salt="salt")
    with database.begin() as connection:
        again = experiments.running(connection)
    users = np.random.default_rng(0).integers(0, 2**53, 20_000).tolist()
    assert [made.arm_of(user) for user in users] == [again.arm_of(user) for user in users]
    counts = Counter(made.arm_of(user).name for user in users)
    for arm in ARMS:
        expected = arm.share * len(users)
        assert abs(counts[arm.name] - expected) < 4 * (expected * (1 - arm.share)) ** 0.5


def test_consecutive_ids_are_divided_as_well_as_any(database):
    with database.begin() as connection:
        made = begin(connection, salt="salt")
    counts = Counter(made.arm_of(user).name for user in range(10_000))
    assert abs(counts["champion"] - 7_000) < 200


def test_another_experiment_divides_anew(database):
    with database.begin() as connection:
        first = begin(connection, salt="one")
        experiments.finish(connection, first.experiment_id, "stopped", reason="done")
        second = begin(connection, salt="another")
    users = range(10_000)
    same = np.mean([first.arm_of(user) == second.arm_of(user) for user in users])
    assert same == pytest.approx(0.7**2 + 0.2**2 + 0.1**2, abs=0.03)


def test_arm_depends_on_salt_and_id_alone(database):
    with database.begin() as connection:
        made = begin(connection, salt="salt")
    other = replace(made, name="another", arms=ARMS)
    assert [made.arm_of(user).name for user in range(8)] == [other.arm_of(user).name for user in range(8)]
    assert made.arm_of(-1).name in {arm.name for arm in ARMS}


def test_second_experiment_is_refused_while_one_runs(database):
    with database.begin() as connection:
        first = begin(connection, name="first")
    with pytest.raises(ExperimentConflictError, match="'first'"), database.begin() as connection:
        begin(connection, name="second")
    with database.begin() as connection:
        experiments.finish(connection, first.experiment_id, "stopped", reason="done")
        assert experiments.running(connection) is None
        assert begin(connection, name="second").status == "running"


def test_of_experiments_started_at_once_one_runs(database):
    barrier, outcomes = threading.Barrier(4), []

    def start(name):
        barrier.wait()
        try:
            with database.begin() as connection:
                outcomes.append(begin(connection, name=name).name)
        except ExperimentConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=start, args=(f"e{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(name is not None for name in outcomes) == 1


def test_end_is_recorded_once_with_its_outcome(database):
    with database.begin() as connection:
        made = begin(connection)
        ended = experiments.finish(
            connection, made.experiment_id, "rolled_back", reason="slow", outcome={"users": 3}
        )
    assert (ended.status, ended.outcome, ended.reason) == (
        "rolled_back",
        {"reason": "slow", "users": 3},
        "why",
    )
    assert ended.ended_at is not None
    with pytest.raises(ExperimentConflictError, match="rolled_back"), database.begin() as connection:
        experiments.finish(connection, made.experiment_id, "stopped", reason="again")
    with database.begin() as connection:
        assert experiments.history(connection) == [ended]
        assert experiments.get(connection, made.experiment_id) == ended
        with pytest.raises(NotFoundError):
            experiments.get(connection, 99)


def test_every_change_is_told_at_its_commit(database, database_url):
    with psycopg.connect(database_url, autocommit=True) as listening:
        listening.execute("LISTEN marquee_experiments")
        with database.begin() as connection:
            made = begin(connection)
        with database.begin() as connection:
            experiments.finish(connection, made.experiment_id, "stopped", reason="done")
        told = [each.payload for each in listening.notifies(timeout=10, stop_after=2)]
    assert told == [str(made.experiment_id)] * 2


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (ARMS[:1], "at least two"),
        (ARMS[:2], "sum to 1"),
        ((ARMS[0], replace(ARMS[0], share=0.3)), "distinct"),
        ((ARMS[0], replace(ARMS[1], share=0.3, digest="")), "bundle"),
    ],
)
def test_arms_that_make_no_experiment_are_refused(database, arms, message):
    with pytest.raises(ValueError, match=message), database.begin() as connection:
        begin(connection, arms=arms)


def test_unknown_arm_is_refused(database):
    with database.begin() as connection:
        made = begin(connection)
    assert made.arm("third") == ARMS[2]
    with pytest.raises(NotFoundError, match="fourth"):
        made.arm("fourth")
