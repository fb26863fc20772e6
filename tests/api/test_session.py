"""Who somebody is, as the service sees it."""

import pytest

pytestmark = pytest.mark.integration


async def test_visitor_learns_who_they_are(client):
    visitor = {"host": "films.example"}
    before = await client.get("/v1/session", headers=visitor)
    assert before.json() == {"user_id": None, "role": "anonymous", "demo": False}
    assert before.headers["cache-control"] == "no-store"
    assert "set-cookie" not in before.headers
    made = await client.post("/v1/session", headers=visitor)
    cookie = made.headers["set-cookie"].partition(";")[0]
    after = await client.get("/v1/session", headers={**visitor, "cookie": cookie})
    assert after.json() == {"user_id": made.json()["user_id"], "role": "visitor", "demo": False}


async def test_operator_of_this_machine_may_play_somebody_too(client):
    assert (await client.get("/v1/session")).json()["role"] == "operator"
    user_id = (await client.post("/v1/session")).json()["user_id"]
    assert (await client.get("/v1/session")).json() == {"user_id": user_id, "role": "operator", "demo": False}
