"""What operators see of drift, of the quality of answers, and of alerts."""

import asyncio
import shutil
import socket
import subprocess
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from free_ports import free_port
from waiting import until

from marquee.api import monitoring as routes
from marquee.api.alertmanager import open_alerts
from marquee.errors import SourceUnavailableError
from marquee.monitoring.watch import look
from marquee.store.objects import ObjectStore
from marquee.store.repositories import monitoring, runs

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 120
PROGRAM = "prometheus-alertmanager"
NOW = datetime.now(UTC)
KEEP = timedelta(days=400)
QUALITY = {
    "answers": 10,
    "coverage": 0.5,
    "gini": None,
    "popularity_share": 0.4,
    "novelty_bits": 8.0,
    "cold_users": 0.1,
    "fallback": 0.0,
    "label_delay_seconds": {"p50": 12.0, "p95": None},
    "outcomes": {"hit_rate": {"champion": 0.2}},
    "quarantine_share": None,
    "newest_event_seconds": 3.0,
}


def signal(feature, effects, exceeded, *, kind="taste", psi=0.3):
    return {
        "kind": kind,
        "feature": feature,
        "psi": psi,
        "p_value": None if psi is None else 0.001,
        "dispersion": 1.0,
        "effects": effects,
        "threshold": 0.2,
        "exceeded": exceeded,
        "alarming": len(exceeded) == 2 and all(exceeded),
        "window_days": [2, 2],
        "reference_days": 28,
        "events": None if psi is None else 700.0,
        "detail": {},
    }


def append(database, at, *signals):
    values = {"quality": QUALITY, "drift": list(signals), "skew": None}
    with database.begin() as connection:
        monitoring.append(connection, at, 0.5, values, keep=KEEP)


async def drift_of(client, **params):
    response = await client.get("/v1/drift", params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def alerts_of(client):
    response = await client.get("/v1/alerts")
    assert response.status_code == 200, response.text
    return response.json()


async def test_nothing_was_measured_yet(client):
    nothing = {"computed_at": None, "features": [], "quality": None, "history": [], "alarms": []}
    assert await drift_of(client) == nothing
    assert await alerts_of(client) == {"source": "drift", "error": None, "total": 0, "alerts": []}


async def test_a_real_look_is_shown(deployed, client, settings, database):
    made = await asyncio.to_thread(look, settings, database, ObjectStore.of(settings), NOW)
    drift = await drift_of(client)
    assert datetime.fromisoformat(drift["computed_at"]) == NOW
    assert drift["quality"] == drift["history"][0]["quality"]
    assert drift["quality"]["answers"] == made.quality.answers
    assert [each["name"] for each in drift["features"]] == [each.feature for each in made.signals]


async def test_status_follows_from_the_windows_that_show_a_shift(client, database):
    append(
        database,
        NOW,
        signal("genre", [0.4, 0.3], [True, True]),
        signal("live.rows", [2.0, 0.1], [True, False], kind="feed", psi=None),
        signal("score", [0.01, 0.02], [False, False], kind="scores"),
        signal("new_releases", [], [], kind="new_releases", psi=None),
    )
    drift = await drift_of(client)
    assert [(each["name"], each["status"]) for each in drift["features"]] == [
        ("genre", "drift"),
        ("live.rows", "shifted"),
        ("score", "stable"),
        ("new_releases", "unknown"),
    ]
    assert drift["history"][0]["effects"] == {"genre": 0.4, "live.rows": 2.0, "score": 0.01}


async def test_history_is_bounded_and_ends_with_the_newest(client, database):
    for hour in range(7 * 24 + 24, -1, -1):
        append(database, NOW - timedelta(hours=hour), signal("genre", [hour / 1000, 0.0], [False, False]))
    week = (await drift_of(client))["history"]
    moments = [datetime.fromisoformat(point["at"]) for point in week]
    assert moments == sorted(moments)
    assert moments[-1] == NOW
    assert NOW - timedelta(days=7, hours=2) < moments[0] < NOW - timedelta(days=6, hours=20)
    assert 100 <= len(week) <= routes.POINTS + 1
    assert len((await drift_of(client, days=1))["history"]) <= 25
    for days in (0, 401, "x"):
        assert (await client.get("/v1/drift", params={"days": days})).status_code == 422


async def test_open_alarms_are_shown_however_many_came_after_them(client, database, monkeypatch):
    monkeypatch.setattr(routes, "PAST_ALARMS", 2)
    with database.begin() as connection:
        first = monitoring.raise_alarm(connection, "feed", NOW - timedelta(days=9), {"feature": "live.rows"})
        run_id = runs.create(connection, "pipeline", {}).run_id
        for day in range(5, 1, -1):
            alarm = monitoring.raise_alarm(connection, "taste", NOW - timedelta(days=day), {})
            monitoring.set_run(connection, alarm.alarm_id, run_id)
            monitoring.resolve(connection, alarm, NOW, {"resolved": "retrained"})
    alarms = (await drift_of(client))["alarms"]
    assert [alarm["kind"] for alarm in alarms] == ["taste", "taste", "feed"]
    assert (alarms[-1]["alarm_id"], alarms[-1]["resolved_at"]) == (first.alarm_id, None)
    assert (alarms[0]["run_id"], alarms[0]["evidence"]) == (str(run_id), {"resolved": "retrained"})
    found = await alerts_of(client)
    assert [(each["name"], each["summary"]) for each in found["alerts"]] == [("MarqueeDrift", "Drift: feed")]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory, missing):
    """The address of a real one that tells nobody."""
    if shutil.which(PROGRAM) is None:
        missing(PROGRAM)
    folder = tmp_path_factory.mktemp("alertmanager")
    config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
    config += (
        "inhibit_rules:\n  - {source_matchers: [alertname=Cause], target_matchers: [alertname=Effect]}\n"
    )
    (folder / "alertmanager.yml").write_text(config)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: is_ready(url), (folder / "log").read_text, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def is_ready(url):
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def post(url, *alerts):
    now = datetime.now(UTC)
    bodies = [
        {
            "labels": {"alertname": name, **labels},
            "annotations": annotations,
            "startsAt": (now - timedelta(minutes=minutes)).isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }
        for name, minutes, labels, annotations in alerts
    ]
    answer = httpx.post(f"{url}/api/v2/alerts", json=bodies, trust_env=False, timeout=DEADLINE_SECONDS)
    answer.raise_for_status()


@pytest.fixture
def settings(settings, request, monkeypatch):
    """With a real Alertmanager, where a test asks for one, and time for it to answer on a busy machine."""
    monkeypatch.setitem(open_alerts.__kwdefaults__, "seconds", DEADLINE_SECONDS)
    if "alertmanager" in request.fixturenames:
        settings.site.alertmanager_url = request.getfixturevalue("alertmanager")
    return settings


async def test_alertmanagers_alerts_are_sorted_by_severity_and_age_and_no_link_runs_scripts(
    alertmanager, client
):
    links = {
        "https": "https://example.org/runbooks/A.md",
        "relative": "docs/runbooks/alerts/A.md",
        "rooted": "/runbooks/A.md",
        "script": "javascript:alert(1)",
        "spaced": " javascript:alert(1)",
        "tabbed": "java\tscript:alert(1)",
        "data": "data:text/html,<script>",
        "elsewhere": "//example.org/A",
        "backslash": "/\\example.org/A",
        "hostless": "https:///A",
        "broken": "http://[::1",
    }
    post(
        alertmanager,
        ("Young", 1, {"severity": "critical"}, {"summary": "It burns", "description": "Brightly."}),
        ("Old", 9, {"severity": "critical"}, {}),
        ("Ungraded", 30, {}, {}),
        ("Told", 60, {"severity": "info"}, {}),
        ("Cause", 5, {"severity": "info"}, {}),
        ("Effect", 5, {"severity": "critical"}, {}),
        *(("Link", 20, {"severity": "warning", "at": at}, {"runbook_url": url}) for at, url in links.items()),
    )
    async with asyncio.timeout(DEADLINE_SECONDS):  # what is inhibited is known a moment later
        while "Effect" in str(found := await alerts_of(client)):
            await asyncio.sleep(0.05)
    assert (found["source"], found["error"], found["total"]) == ("alertmanager", None, 5 + len(links))
    names = [each["name"] for each in found["alerts"]]
    assert names == ["Old", "Young", "Ungraded", *["Link"] * len(links), "Told", "Cause"]
    young = found["alerts"][1]
    assert (young["severity"], young["summary"], young["description"]) == (
        "critical",
        "It burns",
        "Brightly.",
    )
    assert datetime.fromisoformat(young["since"]) < datetime.now(UTC)
    ungraded = found["alerts"][2]
    assert (ungraded["severity"], ungraded["summary"]) == ("warning", "Ungraded")
    shown = {each["labels"]["at"]: each["runbook_url"] for each in found["alerts"] if each["name"] == "Link"}
    kept = ("https", "relative", "rooted")
    assert shown == {at: url if at in kept else None for at, url in links.items()}


async def test_silent_alertmanager_is_said_and_drift_is_shown_all_the_same(settings, database, running):
    settings.site.alertmanager_url = f"http://someone:secret@127.0.0.1:{free_port()}"
    with database.begin() as connection:
        monitoring.raise_alarm(connection, "popularity", NOW, {})
    async with running(settings) as (client, _):
        found = await alerts_of(client)
    assert (found["source"], found["total"]) == ("drift", 1)
    assert "cannot be reached" in found["error"]
    assert "secret" not in found["error"]


async def test_alerts_are_answered_while_the_database_is_away(client, services):
    async def without_database(path):
        while True:
            services.lost("a test")
            answer = await client.get(path)
            if not services.database_is_up:  # else the API has found it again meanwhile
                return answer

    alerts = await without_database("/v1/alerts")
    assert (alerts.status_code, alerts.json()["source"], alerts.json()["alerts"]) == (200, "drift", [])
    assert "cannot be reached" in alerts.json()["error"]
    assert (await without_database("/v1/drift")).status_code == 503


async def test_who_does_not_speak_as_alertmanager_is_not_believed(alertmanager):
    with pytest.raises(SourceUnavailableError, match="answered 404"):
        await open_alerts(f"{alertmanager}/nowhere")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes the call and says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(SourceUnavailableError, match="did not answer"):
            await open_alerts(url, seconds=0.2)
