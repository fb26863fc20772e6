"""One version of a model over HTTP: how it came about, and what it would show."""

import shutil
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select
from stored_events import append_events

from marquee.api.previews import MOST
from marquee.data import Event
from marquee.models.ease import Ease, EaseConfig
from marquee.models.popularity import Popularity
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.repositories import deployments
from marquee.store.repositories.interactions import NewEvent
from marquee.store.tables import impressions

pytestmark = pytest.mark.integration

FIRST_ID = 27205
CURVES = [{"name": "train_loss", "steps": [1, 2], "values": [3.5, 2.5]}]


@pytest.fixture(scope="session")
def eases(trained):
    return [Ease(EaseConfig(ridge=ridge)).fit(trained.interactions, trained.catalog) for ridge in (5, 20, 80)]


@pytest.fixture
def settings(settings):
    """A busy machine changes no list."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"deadline_ms": 5_000})})


@pytest.fixture
def watched(database):
    """User 1 has watched two films."""
    now = datetime.now(UTC)
    with database.begin() as connection:
        append_events(connection, [NewEvent(1, FIRST_ID + i, Event.WATCH, f"1:{i}", now) for i in range(2)])


async def preview(client, version, **query):
    response = await client.get(f"/v1/models/{version}/recommendations", params={"user_id": 1, **query})
    assert response.status_code == 200, response.text
    return response.json()


async def test_version_tells_how_it_came_about(deployed, client, trained, settings, database):
    ref = bundles.publish(
        ObjectStore(settings.paths.objects),
        trained.popularity.state(),
        model="popularity",
        cards=trained.catalog.table,
        metrics={"loss": 2.5},
        snapshot="snapshots/1.json",
        code_version="1.2.3",
        curves=CURVES,
    )
    report = {"verdict": "refused", "reasons": ["It is no better."], "ndcg_at_10": {}}
    with database.begin() as connection:
        for reason, said in (("trained", None), ("judged", report)):
            deployments.append(
                connection,
                "challenger",
                bundle=ref.key,
                digest=ref.digest,
                model=ref.model,
                version=ref.version,
                deployed_by="test",
                reason=reason,
                gate_report=said,
            )
    for name in (ref.version, f"popularity/{ref.version}", ref.key):
        response = await client.get(f"/v1/models/{name}")
        assert response.status_code == 200, response.text
    found = response.json()
    assert (found["model"], found["version"], found["slots"]) == ("popularity", ref.version, ["challenger"])
    assert (found["report"], found["verdict"]) == (report, "refused")
    assert found["curves"] == CURVES
    assert found["metrics"] == {"loss": 2.5}
    assert (found["snapshot"], found["code_version"]) == ("snapshots/1.json", "1.2.3")
    assert found["parameters"] == trained.popularity.state().meta["config"]
    assert [(one["slot"], one["reason"]) for one in found["deployments"]] == [
        ("challenger", "judged"),
        ("challenger", "trained"),
    ]


async def test_bundle_of_before_has_no_curves_and_one_that_is_gone_is_still_listed(
    deployed, client, settings
):
    found = (await client.get(f"/v1/models/{deployed.version}")).json()
    assert found["curves"] is None
    assert found["size_bytes"] > 0
    shutil.rmtree(settings.paths.objects / "bundles")
    found = (await client.get(f"/v1/models/{deployed.version}")).json()
    assert (found["size_bytes"], found["snapshot"], found["parameters"]) == (None, None, {})


async def test_unknown_version_is_not_found(client):
    for path in ("/v1/models/none", "/v1/models/ease/none", "/v1/models/none/recommendations?user_id=1"):
        response = await client.get(path)
        assert (response.status_code, response.json()["type"]) == (404, "/problems/not-found")


async def test_preview_is_what_the_version_would_show_and_is_not_noted(
    deployed, deploy, eases, watched, client, services, database
):
    other = deploy(eases[0], "challenger")
    listed = await preview(client, other.version, k=5, explain=True)
    assert (listed["bundle"], listed["user_id"]) == (f"ease/{other.version}", 1)
    assert (listed["tier"], listed["source"]) == ("personal", "model")
    assert len(listed["items"]) == 5
    assert not {item["item_id"] for item in listed["items"]} & {FIRST_ID, FIRST_ID + 1}
    because = listed["items"][0]["reasons"]["because"]
    assert {film["item_id"] for film in because} <= {FIRST_ID, FIRST_ID + 1}
    serving = await preview(client, f"mlp/{deployed.version}", k=5)
    shown = (await client.get("/v1/users/1/recommendations", params={"k": 5})).json()
    assert [item["item_id"] for item in serving["items"]] == [item["item_id"] for item in shown["items"]]
    await services.journal.flush()
    with database.begin() as connection:
        assert connection.execute(select(func.count()).select_from(impressions)).scalar_one() == 1


async def test_preview_keeps_few_bundles(deployed, deploy, eases, watched, client, services):
    versions = [deploy(ease, "challenger").version for ease in eases]
    for version in (*versions, versions[-1]):
        await preview(client, version)
    kept = [served.deployment.version for served in services.previews._loaded.values()]
    assert kept == versions[-MOST:]


async def test_preview_follows_the_catalogue(deployed, deploy, eases, watched, client, services):
    other = deploy(eases[0], "challenger")
    first = (await preview(client, other.version, k=1))["items"][0]["item_id"]
    assert (await client.patch(f"/v1/items/{first}", json={"block": True})).status_code == 200
    await services.stock()
    assert (await preview(client, other.version, k=1))["items"][0]["item_id"] != first


async def test_preview_of_a_bundle_that_does_not_verify_is_refused(
    deployed, deploy, trained, client, settings
):
    other = deploy(Popularity().fit(trained.interactions), "challenger")
    for path in (settings.paths.objects / other.key).parent.iterdir():
        path.write_bytes(b"broken")
    response = await client.get(f"/v1/models/{other.version}/recommendations?user_id=1")
    assert (response.status_code, response.json()["type"]) == (503, "/problems/bundle-refused")
