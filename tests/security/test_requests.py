"""Requests that were made to do harm, in paths, queries, headers and bodies: the answers, and the log."""

import gzip
import json
from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

SQL = [
    "'",
    "''; DROP TABLE items; --",
    "' OR '1'='1",
    '" OR ""="',
    "1) UNION SELECT key_id, secret_hash FROM api_keys --",
    "\\'; SELECT pg_sleep(30); --",
    "%' AND 1=0 UNION ALL SELECT NULL --",
    "$$; SELECT 1; $$",
    "x:y %(name)s %s {0} :name",
]
UNICODE = ["\u202e", "\ufeff", "\ud7ff", "\U0010ffff", "e\u0301" * 50, "\u0130\u0131\ufb01", "ﷺ" * 20, "🏳️‍🌈"]
NUMBERS = [
    "-1",
    "0",
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    "9" * 400,
    "1e5",
    "0x10",
    "١٢",
    "NaN",
    "+1",
    " 1",
]
PLACES = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..\\..\\x",
    "%00",
    "....//x",
]


async def counts(world) -> dict[str, int]:
    """Rows of the tables that somebody may have wanted to drop."""
    with world.app.state.services.database.begin() as connection:
        tables = ("items", "users", "api_keys", "interactions", "deployments")
        return {t: connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar_one() for t in tables}


def assert_ours(response) -> None:
    """An answer, or a problem with a fix; never the words of a database or a traceback."""
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["fix"]
    for words in ("psycopg", "sqlalchemy", "Traceback", "syntax error", "/site-packages/", ".py"):
        assert words not in response.text


@pytest.mark.parametrize("text", [*SQL, *UNICODE])
async def test_words_in_queries_are_words(world, asked, text):
    before = await counts(world)
    async with asked() as client:
        for path, name in (
            ("/v1/items", "q"),
            ("/v1/items", "genre"),
            ("/v1/items", "language"),
            ("/v1/items", "lang"),
            ("/v1/items", "sort"),
            ("/v1/items", "cursor"),
            ("/v1/users", "q"),
            ("/v1/users", "cursor"),
            ("/v1/users/5/history", "cursor"),
            ("/v1/runs", "pipeline"),
            ("/v1/popular", "genre"),
            ("/v1/quarantine", "source"),
            ("/v1/quarantine", "reason"),
            ("/v1/models", "limit"),
            ("/v1/runs/0198a3c0-0000-7000-8000-000000000000/logs", "after"),
        ):
            response = await client.get(path, params={name: text})
            assert_ours(response)
        for path in ("/v1/items/{}", "/v1/runs/{}", "/v1/models/{}", "/v1/users/{}", "/v1/experiments/{}"):
            assert_ours(await client.get(path.format(quote(text, safe=""))))
    assert await counts(world) == before


@pytest.mark.parametrize("text", SQL)
async def test_words_in_bodies_and_headers_are_words(world, asked, text):
    async with asked() as client:
        film = {"item_id": 603, "title": text, "genres": [text], "people": [text], "overview": text,
                "poster_path": text, "texts": {"ko": {"title": text}}}  # fmt: skip
        written = await client.put("/v1/items", json={"items": [film]})
        assert_ours(written)
        if written.status_code == 200:
            assert (await client.get("/v1/items/603")).json()["title"] == text
            assert_ours(await client.get("/v1/items", params={"q": text}))
        for path, body in (
            ("/v1/models/promote?wait=false", {"version": text, "reason": text}),
            ("/v1/models/rollback", {"slot": text, "reason": text}),
            ("/v1/models/approve", {"version": text}),
            ("/v1/experiments", {"name": text, "arms": [text], "reason": text}),
            ("/run/train?wait=false", {"model_name": text}),
            ("/v1/events", {"event": text, "item_id": 603, "user_id": 1, "event_key": text}),
            (
                "/v1/events",
                {"event": "click", "item_id": 603, "user_id": 1, "event_key": text, "revokes": text},
            ),
        ):
            assert_ours(await client.post(path, json=body))
        header = {"idempotency-key": quote(text, safe="'\";:()=, $%").replace(" ", "_")}
        assert_ours(await client.post("/run/monitor?wait=false", headers=header))
        for name in ("x-request-id", "user-agent", "accept-language", "origin", "cookie", "content-type"):
            sent = text.encode("utf-8", "surrogateescape")
            assert_ours(await client.get("/v1/popular", headers={name: sent}))
    assert (await counts(world))["api_keys"] == 4


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_that_are_too_great_or_none_are_told(asked, number):
    async with asked() as client:
        for path in (
            f"/v1/items/{quote(number)}",
            f"/v1/items/{quote(number)}/similar",
            f"/v1/users/{quote(number)}/recommendations",
            f"/v1/users/{quote(number)}/history",
            f"/v1/users/{quote(number)}",
            f"/v1/experiments/{quote(number)}",
        ):
            assert_ours(await client.get(path))
        for path, name in (("/v1/items", "limit"), ("/v1/items", "year_from"), ("/v1/popular", "k"),
                           ("/v1/runs", "limit"), ("/v1/drift", "days")):  # fmt: skip
            assert_ours(await client.get(path, params={name: number}))
        raw = number.strip()
        for body in (
            f'{{"user_id": {raw}, "item_id": 1, "event": "click"}}',
            f'{{"user_id": 1, "item_id": 1, "event": "watch", "watch_seconds": {raw}}}',
            f'{{"items": [{{"item_id": {raw}, "title": "x"}}]}}',
        ):
            method, path = ("PUT", "/v1/items") if "items" in body else ("POST", "/v1/events")
            headers = {"content-type": "application/json"}
            assert_ours(await client.request(method, path, content=body.encode(), headers=headers))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" + b"1," * 400_000 + b"1]",
        b'{"event": NaN}',
        b'{"user_id": Infinity}',
        b'{"user_id": 1, "user_id": 2}',
        b'{"event": "\\ud800"}',
        b"\xff\xfe\x00",
        b"\x1f\x8b",
        b"null",
        b'"text"',
        b"",
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_body_that_is_not_what_it_should_be_is_told(asked, body):
    async with asked() as client:
        for path in ("/v1/events", "/predict", "/v1/recommendations", "/v1/recommendations/batch"):
            response = await client.post(path, content=body, headers={"content-type": "application/json"})
            assert response.status_code in (400, 413, 422, 503), f"{path}: {response.text}"
            assert_ours(response)


async def test_packed_body_is_not_unpacked(asked):
    """So no small request becomes a great one."""
    async with asked() as client:
        for encoding, content in (
            ("gzip", gzip.compress(b" " * (64 << 20))),
            ("deflate", b"x"),
            ("br", b"x"),
        ):
            headers = {"content-type": "application/json", "content-encoding": encoding}
            response = await client.post("/v1/events", content=content, headers=headers)
            assert response.status_code == 422
            assert_ours(response)


async def test_other_kinds_of_bodies_are_not_read(asked):
    """Neither forms, whose parts could be many, nor XML, whose entities could be."""
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    async with asked() as client:
        for kind in (
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "text/plain",
            "application/x-yaml",
            "application/x-pickle",
        ):
            response = await client.post("/v1/events", content=bomb, headers={"content-type": kind})
            assert response.status_code == 422
            assert_ours(response)


@pytest.mark.parametrize("place", PLACES)
async def test_paths_lead_out_of_nothing(asked, place):
    async with asked() as client:
        for folder in ("/", "/assets/", "/docs-assets/", "/v1/models/", "/v1/items/", "/film/"):
            response = await client.get(f"{folder}{place}")
            assert "root:" not in response.text
            assert response.status_code in (200, 404, 422)
            if response.status_code == 200:  # the page of the site, or the greeting, is all that there is
                kind = response.headers["content-type"]
                assert kind.startswith("text/html") or response.json().keys() == {"message"}


@pytest.mark.parametrize(
    "poster",
    [
        "javascript:alert(1)",
        "//evil.example/x.png",
        "data:text/html,x",
        "http://169.254.169.254/latest",
        "\\\\evil\\x",
    ],
)
async def test_poster_is_an_address_for_browsers_and_never_fetched(asked, poster):
    async with asked() as client:
        film = {"item_id": 604, "title": "x", "poster_path": poster}
        if (await client.put("/v1/items", json={"items": [film]})).status_code == 200:
            shown = (await client.get("/v1/items/604")).json()["poster_url"]
            assert shown.startswith(("http://", "https://"))


HOSTILE = [
    "/v1/items?q=x\r\nset-cookie: a=b",
    "/%0d%0aset-cookie:%20a=b",
    "/%0a{%22event%22:%22api.request%22,%22role%22:%22operator%22}",
    "/%1b[2J%1b]0;title%07",
    "/%e2%80%a8%e2%80%a9%c2%85%0b%0c",
    "/%ff%fe%00",
    "/%22,%22role%22:%22operator%22,%22x%22:%22",
]


@pytest.mark.parametrize("path", HOSTILE)
async def test_log_stays_one_object_a_line_and_headers_stay_ours(world, log_lines, path):
    hostile = b'x"\\ {"role":"operator"} \x1b[31m \xe2\x80\xa8 \xff'
    async with world.client() as client:
        request = client.build_request("GET", "/", headers={"user-agent": hostile, "x-request-id": hostile})
        target = path.encode().partition(b"\r")[0]
        request.url = request.url.copy_with(raw_path=target)
        response = await client.send(request)
    assert "set-cookie" not in response.headers
    assert response.headers["x-request-id"].replace("-", "").isalnum()
    raw = log_lines()
    lines = [json.loads(line) for line in raw.split("\n") if line]
    (line,) = [line for line in lines if line["event"] == "api.request"]
    assert line["role"] == "anonymous"
    assert not {"\x1b", "\r", "\x00", "\x07"} & set(raw)
    assert len(raw.strip("\n").split("\n")) == len(lines)


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=1", "a\nb", "a\x00b", "x" * 129, "a b", "é"])
async def test_request_id_of_a_caller_is_sent_back_only_if_it_is_harmless(world, value):
    async with world.client() as client:
        response = await client.get("/livez", headers={"x-request-id": value.encode()})
    assert response.headers["x-request-id"] != value
    assert len(response.headers.get_list("x-request-id")) == 1
    assert "set-cookie" not in response.headers


async def test_what_is_handed_over_is_json_and_named_by_us(world):
    """There is no CSV that a spreadsheet would take formulas from, and no name that a caller chooses."""
    async with world.client() as client:
        response = await client.get("/v1/users/5/export", headers=world.bearer("viewer"))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-disposition"] == 'attachment; filename="marquee-user-5.json"'
    media = {
        kind
        for operations in world.app.openapi()["paths"].values()
        for operation in operations.values()
        for answer in operation["responses"].values()
        for kind in answer.get("content", {})
    }
    assert media <= {"application/json", "application/problem+json"}
