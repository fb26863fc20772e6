"""Canaries and experiments as a person or a script handles them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from marquee.cli import experiments as commands
from marquee.config import Settings
from marquee.store.postgres import Database
from marquee.store.repositories import deployments

pytestmark = [pytest.mark.integration]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def marquee(settings: Settings, database: Database, database_url: str) -> Run:
    """The command line on a home with a champion `v1` and a challenger `v2`."""
    with database.begin() as connection:
        for slot, version, letter in (("champion", "v1", "a"), ("challenger", "v2", "b")):
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

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "marquee.cli", *arguments],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "MARQUEE_HOME": str(settings.home),
                "MARQUEE_DATABASE__URL": database_url,
                "MARQUEE_MLFLOW__TRACKING_URI": "http://127.0.0.1:9",  # away: nothing waits for it
                "COLUMNS": "200",
            },
            timeout=120,
            check=False,
        )

    return run


def test_canary_is_started_looked_at_and_stopped(marquee):
    started = marquee("canary", "start", "v2", "--share", "20%", "--reason", "new factors")
    assert started.returncode == 0, started.stderr
    assert "20.0%" in started.stdout
    status = marquee("canary", "status")
    assert "not decided yet" in status.stdout
    assert "too few users" in status.stdout
    stopped = json.loads(marquee("canary", "stop", "--json").stdout)
    assert (stopped["status"], stopped["reason"]) == ("stopped", "new factors")
    assert marquee("canary", "status").returncode == 1


@pytest.mark.slow
def test_experiment_is_started_and_its_arm_promoted(marquee, database):
    arms = ("--arm", "champion=50", "--arm", "v2=50")
    started = json.loads(marquee("experiment", "start", "factors", *arms, "--json").stdout)
    assert [(arm["name"], arm["share"]) for arm in started["arms"]] == [("champion", 0.5), ("v2", 0.5)]
    stopped = json.loads(marquee("experiment", "stop", "--promote", "v2", "--json").stdout)
    assert stopped["status"] == "promoted"
    with database.begin() as connection:
        assert deployments.current(connection, "champion").version == "v2"
    listed = marquee("experiment", "status", "--all")
    assert "factors" in listed.stdout
    assert "promoted" in listed.stdout


def test_shares_that_do_not_sum_to_all_users_are_a_mistake(marquee):
    result = marquee("experiment", "start", "x", "--arm", "champion=50", "--arm", "v2=60")
    assert (result.returncode, "sum to 1" in result.stderr) == (2, True)


@pytest.mark.parametrize("text", ["champion", "champion=lots"])
def test_arm_without_a_percentage_is_a_mistake(text):
    with pytest.raises(ValueError, match=r"PERCENT|percentage"):
        commands.wanted_arm(text)
