"""
A virtual audience visits the real API over HTTP for simulated months; monitoring looks as the days go by.

The API takes its times from the clock, so what a play leaves is put aside and given back day by day with its
times moved (`benchmarks/_played.py`): what was answered, and what came of it, is as it was over HTTP, and no
look can see a day that is still to come. The short form has few visits a day, and lower limits of traffic to
match; the long form has the limits that Marquee ships with, and several audiences.
"""

import asyncio
import os
from datetime import timedelta

import pytest

from _played import ALARMS, Calendar, PlayedAudience, copied, midnight
from marquee.config import MonitorSettings, Settings
from marquee.simulate import AudienceConfig, DriftConfig

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.soak]

SOAK = os.environ.get("MARQUEE_SOAK") == "1"
SEEDS = [1, 2, 3] if SOAK else [1]

YEAR = 365
EVENTS_WITHIN = (
    {"taste": 2_500, "releases": 2_500, "popularity": 2_500, "feed": 2_500}
    if SOAK
    else {"taste": 1_200, "releases": 1_200, "popularity": 1_200, "feed": 1_200}
)
"""Events from a drift until its alarm, at most; see docs/monitoring.md."""

QUIET = Calendar(80 if SOAK else 10)
BUSY = Calendar(80 if SOAK else 50)
DAYS_BEFORE = 42 if SOAK else 21
DRIFT_DAYS = 21 if SOAK else 10


def monitoring(min_events):
    """Limits of the short form, or of Marquee."""
    return (
        MonitorSettings(retrain=False)
        if SOAK
        else MonitorSettings(retrain=False, min_events=min_events, replayed=40)
    )


@pytest.fixture(scope="module", params=SEEDS)
def audience(request):
    return AudienceConfig(users=2_000, seed=request.param)


@pytest.fixture(scope="module")
def settled(postgres, tmp_path_factory, audience):
    """A database that has had weeks without drift, what it is called, and the alarms of those weeks."""
    settings = Settings(home=tmp_path_factory.mktemp("settled"), monitor=monitoring(300))
    name = f"settled_{audience.seed}"
    with copied(postgres, settings, "template_marquee", name) as database:
        played = PlayedAudience(settings, database, audience, BUSY)
        played.begin()
        first = midnight() - timedelta(days=DAYS_BEFORE)
        asyncio.run(played.play(first, DAYS_BEFORE, seed=audience.seed))
        raised = played.watch(first, DAYS_BEFORE)
        database.close()
        yield settings, name, raised


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drift", ALARMS)
def test_drift_raises_its_own_alarm_within_its_events_and_no_other(postgres, settled, audience, drift):
    settings, name, before = settled
    assert before == []
    with copied(postgres, settings, name, f"{name}_{drift}") as database:
        played = PlayedAudience(settings, database, audience, BUSY)
        change = DriftConfig(drift)
        asyncio.run(played.play(midnight(), DRIFT_DAYS, seed=100 + audience.seed, drift=change))
        raised = played.watch(midnight(), DRIFT_DAYS)
    assert [each.kind for each in raised] == [ALARMS[drift]]
    assert raised[0].events <= EVENTS_WITHIN[drift]


@pytest.mark.timeout(3600)
def test_year_without_drift_raises_no_alarm(postgres, tmp_path, audience):
    settings = Settings(home=tmp_path, monitor=monitoring(120))
    first = midnight() - timedelta(days=YEAR)
    with copied(postgres, settings, "template_marquee", f"year_{audience.seed}") as database:
        played = PlayedAudience(settings, database, audience, QUIET)
        played.begin()
        for day, days in ((0, YEAR // 2), (YEAR // 2, YEAR - YEAR // 2)):
            since = first + timedelta(days=day)
            asyncio.run(played.play(since, days, seed=day + audience.seed))
            assert played.watch(since, days, every=1 if SOAK else 7) == []
            played.train()  # as the schedule has it
