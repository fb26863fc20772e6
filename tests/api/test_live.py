"""A virtual audience visits the real application over HTTP; what it does shows in experiments."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from _played import serving
from marquee.config import CanarySettings
from marquee.models.base import ModelState
from marquee.models.ease import Ease
from marquee.monitoring.canary import Watch
from marquee.monitoring.trials import WantedArm, outcome_of, start_canary, start_experiment
from marquee.simulate import Audience, AudienceConfig, DriftConfig, LiveConfig
from marquee.simulate.live import fetch_world, play
from marquee.store.repositories import experiments, interactions

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.soak]

SOAK = os.environ.get("MARQUEE_SOAK") == "1"
AUDIENCE = AudienceConfig(users=400 if SOAK else 200, seed=1)
VISITS = LiveConfig(
    users=AUDIENCE.users, rate=500, seconds=9.6 if SOAK else 0.8, concurrency=8, elsewhere=1.0
)


@pytest.fixture(scope="module")
def past(trained):
    """What the audience has watched before."""
    return Audience(trained.catalog, np.ones(len(trained.catalog)), AUDIENCE).simulate().interactions


@pytest.fixture(scope="module")
def models(trained, past):
    """A model of the audience's tastes, and one that recommends the opposite."""
    good = Ease().fit(past, trained.catalog)
    state = good.state()
    return good, Ease.from_state(ModelState({**state.arrays, "dense": -state.arrays["dense"]}, state.meta))


@pytest.fixture
def settings(settings):
    """With time enough on a busy machine: no list is to come from elsewhere than its arm."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"deadline_ms": 10_000})})


@pytest.fixture
def history(database, past, catalogue):
    """The audience's past in the database."""
    rows = past.to_arrow()
    keys = [f"{i}" for i in range(len(rows))]
    with database.begin() as connection:
        interactions.load_interactions(
            connection, rows.append_column("event_key", [keys]), source="audience", kind="virtual"
        )


async def visited(settings, database, experiment, config=VISITS):
    """What happened, and the outcome once all of it is written."""
    async with serving(settings) as client:
        world = await fetch_world(client, AUDIENCE)
        report = await play(client, world, config)
        answers = report.answers.total()
        async with asyncio.timeout(60):
            while _written(database) < answers:
                await asyncio.sleep(0.05)
    with database.begin() as connection:
        return report, outcome_of(connection, experiment)


def name(model):
    """As answers call it."""
    return f"{model.model}/{model.version}"


def salted(connection, experiment):
    """The experiment with a salt of our own: who is in which arm is no matter of luck."""
    salt = text("UPDATE experiments SET salt = 'salt' WHERE experiment_id = :id")
    connection.execute(salt, {"id": experiment.experiment_id})
    return experiments.get(connection, experiment.experiment_id)


def _written(database):
    with database.begin() as connection:
        return connection.execute(text("SELECT count(*) FROM impressions")).scalar_one()


async def test_planted_winner_is_found_and_its_equal_is_not(database, settings, history, deploy, models):
    good, bad = models
    champion, challenger = name(deploy(bad, "champion")), name(deploy(good, "challenger"))
    arms = [WantedArm("champion", 0.34), WantedArm("challenger", 0.33), WantedArm("champion", 0.33)]
    with database.begin() as connection:
        experiment = start_experiment(
            connection, "planted", arms, limits=settings.canary, started_by="test", reason="test"
        )
        experiment = salted(connection, experiment)
    report, outcome = await visited(settings, database, experiment)

    assert not report.errors
    assert report.answers.keys() == {champion, challenger}
    assert report.mean_affinity(challenger) > report.mean_affinity(champion) + 0.05
    found = outcome.arm("challenger")
    assert found.measures["all"].answers == report.answers[challenger]
    assert found.measures["all"].viewed > 0.9 * report.answers[challenger]
    assert found.moments("click_rate").y == report.clicks[challenger]
    assert not outcome.sample_ratio.alarm
    assert outcome.verdict == "challenger is better"
    assert outcome.primary("champion#2").verdict == "not decided yet"


async def test_bad_canary_is_rolled_back_and_everybody_has_the_champion(
    database, settings, history, deploy, models
):
    good, bad = models
    champion = name(deploy(good, "champion"))
    deploy(bad, "challenger")
    with database.begin() as connection:
        experiment = start_canary(
            connection,
            share=0.5,
            limits=CanarySettings(max_latency_ms=60_000),
            started_by="test",
            reason="test",
        )
        experiment = salted(connection, experiment)
    await visited(settings, database, experiment)
    decision = Watch(database).look()
    assert (decision.action, "hit rate" in decision.reasons[0]) == ("roll_back", True)
    with database.begin() as connection:
        assert experiments.get(connection, experiment.experiment_id).status == "rolled_back"
    async with serving(settings) as client:
        world = await fetch_world(client, AUDIENCE)
        after = await play(client, world, replace(VISITS, seconds=0.1, seed=9))
    assert after.answers.keys() == {champion}


async def test_films_that_come_out_on_the_way_are_in_the_catalogue_and_watched(
    database, settings, history, deploy, models
):
    deploy(models[0], "champion")
    async with serving(settings) as client:
        world = await fetch_world(client, AUDIENCE)
        visits = replace(VISITS, seconds=0.1)
        report = await play(client, world, visits, DriftConfig("releases", after=10, strength=1.0))
        after = await fetch_world(client, AUDIENCE)
    assert (report.answers.total(), report.drifted, report.errors) == (50, 40, {})
    new = set(after.truth.items.ids.tolist()) - set(world.truth.items.ids.tolist())
    assert len(new) == len(world.truth.items) // 20
    with database.begin() as connection:
        watched = connection.execute(
            text("SELECT count(*) FROM interactions WHERE event = 'watch' AND item_id = ANY(:new)"),
            {"new": list(new)},
        ).scalar_one()
    assert watched == 40


async def test_command_prints_what_happened(settings, history, deploy, models):
    served = name(deploy(models[0], "champion"))
    async with serving(settings) as client:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "marquee.cli", "simulate", "--live", str(client.base_url)),
            *("--users", "10", "--rate", "20", "--seconds", "1", "--json"),
            *("--drift", "feed", "--drift-after", "5", "--drift-strength", "1"),
            env={**os.environ, "MARQUEE_HOME": str(settings.home)},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await command.communicate()
    made = json.loads(printed)
    assert (made["answers"], made["drifted"], made["errors"]) == (20, 15, {})
    assert made["bundles"][served]["answers"] == 20
    assert 0 < made["mean_affinity"] < 1
