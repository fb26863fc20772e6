"""The data as operators look at it."""

import pytest

from marquee.store.repositories import quarantine

pytestmark = pytest.mark.integration


@pytest.fixture
def rejected(database):
    with database.begin() as connection:
        rows = [("no title", {"id": n}) for n in range(5)] + [("no year", {"id": 9})]
        quarantine.append(connection, "tmdb", rows)
        quarantine.append(connection, "own", [("no title", {"id": 1})])


async def test_rejected_rows_are_paged_newest_first(rejected, client):
    wanted = {"source": "tmdb", "reason": "no title", "limit": 2}
    seen, cursor = [], None
    while True:
        response = await client.get("/v1/quarantine", params=wanted | ({"cursor": cursor} if cursor else {}))
        page = response.json()
        seen += [row["row"]["id"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [4, 3, 2, 1, 0]
    every = (await client.get("/v1/quarantine")).json()["rows"]
    assert [(row["source"], row["reason"]) for row in every[:2]] == [("own", "no title"), ("tmdb", "no year")]


async def test_cursor_of_another_question_is_a_422(rejected, client):
    page = (await client.get("/v1/quarantine", params={"limit": 1})).json()
    wanted = {"source": "tmdb", "cursor": page["next_cursor"]}
    assert (await client.get("/v1/quarantine", params=wanted)).status_code == 422


async def test_rejected_rows_are_summed_up_by_reason(rejected, client):
    summary = (await client.get("/v1/quarantine/summary")).json()
    assert summary["total"] == 7
    assert [(each["source"], each["reason"], each["count"]) for each in summary["by"]] == [
        ("tmdb", "no title", 5),
        ("own", "no title", 1),
        ("tmdb", "no year", 1),
    ]
    assert summary["by"][0]["newest_at"]


async def test_catalogue_is_summed_up(catalogue, client):
    summary = (await client.get("/v1/catalogue/summary")).json()
    assert (summary["items"], summary["with_poster"], summary["by_source"]) == (60, 59, {"test": 60})
    assert {"genre": "Drama", "items": 15} in summary["by_genre"]
    assert (summary["interactions"], summary["users"], summary["newest_event_at"]) == (0, 0, None)
