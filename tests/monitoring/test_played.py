"""
A virtual audience visits the real API over HTTP for a year, and then the world changes; monitoring looks on.

Every visit is live: an answer of the API, what the visitor does with it, and the events that are posted.
What is stretched is time. The API takes its times from the clock, so what a play leaves is put aside and
given back day by day with its times moved (`benchmarks/_played.py`), and no look can see a day that is still
to come.

The short form has ten visits a day, windows three times as long to match, and looks once a week in the year;
the long form has the limits that Marquee ships with, looks every day, and has several audiences. The drifts
come at the end of the year, each to a copy of its database.
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
LIMITS = (
    MonitorSettings(retrain=False)
    if SOAK
    else MonitorSettings(retrain=False, min_events=300, window_days=21, reference_days=56, replayed=40)
)
VISITS = Calendar(45 if SOAK else 10)
YEAR = 365
LOOK_EVERY = 1 if SOAK else 7
DRIFT_DAYS = 21 if SOAK else 34
DRIFT_LOOK_EVERY = 1 if SOAK else 2

EVENTS_WITHIN = 3.5 * LIMITS.min_events if SOAK else 3 * LIMITS.min_events
"""
Rows from a drift until its alarm, at most. Two windows of events that take a film are the least, and a visit
leaves 1.4 rows for each of these, which makes 2.8. Windows and looks end with a day, and a day of the long
form is more of a window.
"""


@pytest.fixture(scope="module", params=SEEDS)
def audience(request):
    return AudienceConfig(users=2_000, seed=request.param)


@pytest.fixture(scope="module")
def year(postgres, tmp_path_factory, audience):
    """Settings, the name of a database that has had a year without drift, and the alarms of that year."""
    settings = Settings(home=tmp_path_factory.mktemp("year"), monitor=LIMITS)
    name = f"year_{audience.seed}"
    first, raised = midnight() - timedelta(days=YEAR), []
    with copied(postgres, settings, "template_marquee", name) as database:
        played = PlayedAudience(settings, database, audience, VISITS)
        played.begin()
        for number, (day, days) in enumerate(((0, YEAR // 2), (YEAR // 2, YEAR - YEAR // 2))):
            since = first + timedelta(days=day)
            asyncio.run(played.play(since, days, seed=10 * audience.seed + number))
            raised += played.watch(since, days, every=LOOK_EVERY)
            played.train()  # as the schedule has it
        database.close()
        yield settings, name, raised


@pytest.mark.timeout(3600)
def test_year_without_drift_raises_no_alarm(year):
    *_, raised = year
    assert raised == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drift", ALARMS)
def test_drift_raises_its_own_alarm_within_its_events_and_no_other(postgres, year, audience, drift):
    settings, name, _ = year
    with copied(postgres, settings, name, f"{name}_{drift}") as database:
        played = PlayedAudience(settings, database, audience, VISITS)
        change = DriftConfig(drift)
        asyncio.run(played.play(midnight(), DRIFT_DAYS, seed=100 + audience.seed, drift=change))
        raised = played.watch(midnight(), DRIFT_DAYS, every=DRIFT_LOOK_EVERY)
    assert [each.kind for each in raised] == [ALARMS[drift]]
    assert raised[0].events <= EVENTS_WITHIN
