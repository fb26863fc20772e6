import pytest

pytestmark = pytest.mark.integration


async def test_backfill_and_drill_are_runs_like_others(deployed, worker, client):
    await worker()
    span = {"from": "2026-11-01", "to": "2026-11-08T12:00:00+09:00"}
    assert (await client.post("/run/backfill", json=span)).json() == {"result": "backfill finished"}
    assert (await client.post("/run/drill")).json() == {"result": "drill finished"}
    backfill, drill = [
        (await client.get("/v1/runs", params={"pipeline": name})).json()["runs"][0]
        for name in ("backfill", "drill")
    ]
    assert backfill["parameters"] == {
        "after": "2026-11-01T00:00:00+00:00",
        "until": "2026-11-08T03:00:00+00:00",
    }
    assert drill["status"] == "succeeded"


async def test_backfill_of_no_time_is_refused(client):
    for span, field in [
        ({"from": "2026-11-08", "to": "2026-11-08"}, "body.to"),
        ({"from": "yesterday", "to": "2026-11-08"}, "body.from"),
        ({"to": "2026-11-08"}, "body.from"),
    ]:
        response = await client.post("/run/backfill", json=span)
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == field
