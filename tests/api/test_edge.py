"""The edge around a small application: nothing else runs."""

import logging
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY

from marquee.api.access import Access, Caller
from marquee.api.edge import SECURITY_HEADERS, Edge, new_request_id
from marquee.api.hot import HotRoute, HotRoutes, PassOn, Reply
from marquee.api.limits import MAX_BODY_BYTES, Overload
from marquee.config import Settings
from marquee.store.repositories import keys
from marquee.store.repositories.keys import ValidKey
from marquee.telemetry import note

KEY = "mq_0123456789_secret"
UNLIMITED = {"rate_per_key": "1000000/second", "rate_per_address": "1000000/second"}


class Echo:
    """Answers with what reached it."""

    def __init__(self):
        self.scopes = []
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "OPTIONS"):
            message = await receive()
            assert not message["more_body"]
            self.bodies.append(message["body"])
        if scope["path"] == "/broken":
            raise RuntimeError("a secret of the inside")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"echo"})


@pytest.fixture
def edge_of(tmp_path):
    """The edge with some settings of the API, around an `Echo`; with `valid` keys nobody else is trusted."""

    async def make(*valid, app=None, **api):
        settings = Settings(home=tmp_path, api={**UNLIMITED, **api})
        access = Access(settings)

        async def run(_):
            return list(valid), bool(valid)

        await access.keys.refresh(run)
        echo = Echo()
        edge = Edge(app or echo, settings=settings, access=access, overload=Overload(256))
        edge.echo = echo
        return edge

    return make


def client_of(edge, address="127.0.0.1"):
    transport = httpx.ASGITransport(edge, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def service(key=KEY):
    return ValidKey("0123456789", "service", keys.digest(key.encode()))


async def test_caller_is_in_the_scope_with_an_id_that_is_a_uuid(edge_of):
    edge = await edge_of(service())
    given = "0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11"
    async with client_of(edge) as client:
        for sent in (given, given.replace("-", ""), "not-a-uuid", "", "a b", "{" + given + "}"):
            headers = {"authorization": f"Bearer {KEY}", "x-request-id": sent}
            response = await client.get("/health", headers=headers)
            caller = edge.echo.scopes[-1]["marquee"]
            assert isinstance(caller, Caller)
            assert (caller.role, caller.user_id, caller.key_id) == ("service", None, "0123456789")
            UUID(caller.request_id)
            if sent.replace("-", "") == given.replace("-", ""):
                assert caller.request_id == response.headers["x-request-id"] == sent
            elif sent == "not-a-uuid":
                assert response.headers["x-request-id"] == sent
            else:
                assert response.headers["x-request-id"] == caller.request_id


def test_ids_of_ours_are_uuids_of_version_7_in_the_order_of_time():
    ids = [new_request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(str(UUID(i)) == i and UUID(i).version == 7 and UUID(i).variant for i in ids)
    stamps = [i[:13] for i in ids]
    assert stamps == sorted(stamps)


async def test_every_answer_carries_the_security_headers(edge_of):
    edge = await edge_of(service())
    async with client_of(edge) as client:
        for path in ("/health", "/run/train", "/broken"):
            headers = (await client.get(path)).headers
            for name, value in SECURITY_HEADERS:
                assert headers[name.decode()] == value.decode()


async def test_head_is_answered_as_get_without_the_body(edge_of):
    edge = await edge_of()
    async with client_of(edge) as client:
        response = await client.head("/health")
    assert (response.status_code, response.content) == (200, b"")
    assert edge.echo.scopes[0]["method"] == "GET"


async def test_error_that_nobody_caught_is_an_opaque_500(edge_of):
    edge = await edge_of()
    async with client_of(edge) as client:
        response = await client.get("/broken", headers={"x-request-id": "find-me"})
    assert response.status_code == 500
    assert "find-me" in response.json()["detail"]
    assert "secret" not in response.text


async def test_what_is_not_http_passes_untouched(edge_of):
    edge = await edge_of()
    for kind in ("websocket", "lifespan"):
        scope = {"type": kind}
        await edge(scope, None, None)
        assert edge.echo.scopes[-1] is scope
        assert scope == {"type": kind}


async def test_body_arrives_whole_and_too_long_or_deep_ones_do_not(edge_of):
    async def parts(*chunks):
        for chunk in chunks:
            yield chunk

    edge = await edge_of()
    async with client_of(edge) as client:
        assert (await client.post("/predict", content=parts(b"[1,", b"2]"))).status_code == 200
        assert (await client.post("/predict")).status_code == 200
        assert (await client.post("/predict", content=b"x" * MAX_BODY_BYTES)).status_code == 200
        assert [len(body) for body in edge.echo.bodies] == [5, 0, MAX_BODY_BYTES]
        for body in (b"x" * (MAX_BODY_BYTES + 1), parts(*[b"x" * 100_000] * 20)):
            response = await client.post("/predict", content=body)
            assert response.status_code == 413
            assert response.json()["type"] == "/problems/body-too-large"
        deep = await client.post("/predict", content=b"[" * 33 + b"]" * 33)
        assert deep.status_code == 422
        assert deep.json()["errors"][0]["field"] == "body"
        lying = await client.post("/predict", content=b"{}", headers={"content-length": "9" * 400})
        assert lying.status_code == 413
    assert len(edge.echo.bodies) == 3


async def test_client_that_leaves_while_it_sends_reaches_no_route(edge_of):
    edge = await edge_of()
    messages = [{"type": "http.request", "body": b"[1", "more_body": True}, {"type": "http.disconnect"}]
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "scheme": "http", "server": ("localhost", 80),
        "client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost"), (b"content-length", b"9")],
    }  # fmt: skip

    async def receive():
        return messages.pop(0)

    await edge(scope, receive, None)
    assert not edge.echo.scopes


async def test_too_many_requests_are_told_when_to_come_back(edge_of):
    edge = await edge_of(service(), rate_per_key="3/hour", rate_per_address="2/hour")
    with_key = {"authorization": f"Bearer {KEY}"}

    async def asked(client, headers=None):
        return [(await client.get("/health", headers=headers)).status_code for _ in range(4)]

    async with client_of(edge, "192.0.2.1") as client:
        assert await asked(client) == [200, 200, 429, 429]
        assert await asked(client, with_key) == [200, 200, 200, 429]
        refused = await client.get("/health")
        assert refused.json()["type"] == "/problems/rate-limited"
        assert 0 < int(refused.headers["retry-after"]) <= 3600
    async with client_of(edge, "192.0.2.2") as client:
        assert await asked(client, {"authorization": "Bearer wrong"}) == [401, 401, 429, 429]
    async with client_of(edge, "2001:db8::1") as client:
        assert await asked(client) == [200, 200, 429, 429]
    async with client_of(edge, "2001:db8::ffff:1") as client:  # the same household
        assert (await asked(client))[0] == 429


async def test_visitor_is_counted_by_cookie_and_by_address(edge_of):
    edge = await edge_of(service(), rate_per_key="2/hour", rate_per_address="5/hour")
    cookie = edge._access.cookies.header_for(7, secure=False).partition(";")[0]
    async with client_of(edge, "192.0.2.1") as client:
        statuses = [(await client.get("/health", headers={"cookie": cookie})).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert [(await client.get("/health")).status_code for _ in range(3)] == [200, 200, 429]


async def test_person_at_the_machine_is_not_counted(edge_of):
    edge = await edge_of(rate_per_address="1/hour")
    async with client_of(edge) as client:
        assert {(await client.get("/health")).status_code for _ in range(5)} == {200}


async def test_pages_of_listed_sites_may_read_answers_and_refusals(edge_of):
    site = "https://site.example"
    edge = await edge_of(service(), cors_origins=(site,), rate_per_address="3/hour")
    ask = {"origin": site, "access-control-request-method": "POST",
           "access-control-request-headers": "authorization, content-type"}  # fmt: skip
    async with client_of(edge) as client:
        allowed = await client.options("/v1/events", headers=ask)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == site
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["x-request-id"]
        other = await client.options("/v1/events", headers={**ask, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        refused = await client.get("/run/train", headers={"origin": site})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, site)
        assert "x-request-id" in refused.headers["access-control-expose-headers"].lower()
        limited = await client.get("/health", headers={"origin": site})
        assert (limited.status_code, limited.headers["access-control-allow-origin"]) == (429, site)


async def test_without_a_list_no_site_may_read_answers(edge_of):
    edge = await edge_of()
    async with client_of(edge) as client:
        response = await client.get("/health", headers={"origin": "https://site.example"})
    assert "access-control-allow-origin" not in response.headers


async def test_hot_routes_stand_behind_the_edge(edge_of):
    async def handler(call):
        if call.query:
            raise PassOn
        return Reply(b'{"user": %d}' % call.params[0])

    echo = Echo()
    hot = HotRoutes(echo, [HotRoute("GET", "/v1/users/{user_id}/recommendations", handler)])

    class State:
        services = None

    async def app(scope, receive, send):
        scope["app"] = type("App", (), {"state": State})
        await hot(scope, receive, send)

    site = "https://site.example"
    edge = await edge_of(service(), app=app, cors_origins=(site,))
    path = "/v1/users/7/recommendations"
    async with client_of(edge) as client:
        assert (await client.get(path)).status_code == 401
        headers = {"authorization": f"Bearer {KEY}", "origin": site}
        response = await client.get(path, headers=headers)
        assert (response.json(), response.headers["access-control-allow-origin"]) == ({"user": 7}, site)
        assert (await client.get(f"{path}?k=1", headers=headers)).text == "echo"
        assert (await client.head(path, headers=headers)).content == b""
    route = "/v1/users/{user_id}/recommendations"
    labels = {"method": "GET", "route": route, "status": "200"}
    assert REGISTRY.get_sample_value("marquee_http_requests_total", labels) >= 2


async def test_request_is_counted_and_timed_by_route_and_tier(edge_of):
    async def app(scope, receive, send):
        scope["route"] = type("Route", (), {"path": "/things/{id}"})
        note(tier="session")
        await Echo()(scope, receive, send)

    labels = {"route": "/things/{id}", "tier": "session"}

    def count():
        return REGISTRY.get_sample_value("marquee_http_request_seconds_count", labels) or 0

    edge, before = await edge_of(app=app), count()
    async with client_of(edge) as client:
        await client.get("/things/1")
        await client.get("/things/2")
    assert count() == before + 2


async def test_runs_that_are_waited_for_are_told_to_the_overload(edge_of):
    seen = []

    async def app(scope, receive, send):
        seen.append(edge._overload.waiting)
        await Echo()(scope, receive, send)

    edge = await edge_of(app=app)
    async with client_of(edge) as client:
        await client.post("/run/train")
        await client.get("/health")
        await client.post("/run/broken")
    assert seen == [1, 0, 1]
    assert edge._overload.waiting == 0


def requests(json_logs):
    return [line for line in json_logs() if line["event"] == "api.request"]


async def test_line_of_a_request_says_who_asked_for_what_and_how_it_ended(edge_of, json_logs):
    edge = await edge_of(service())
    async with client_of(edge) as client:
        await client.get("/health?token=hidden", headers={"authorization": f"Bearer {KEY}"})
        await client.get("/a\u00e9", headers={"x-request-id": "mine"})
    first, second = requests(json_logs)
    always = "event level timestamp request_id method path status duration_ms role"
    assert set(first) == {*always.split(), "key_id"}
    assert (first["event"], first["status"], first["role"]) == ("api.request", 200, "service")
    assert (first["path"], first["key_id"]) == ("/health", "0123456789")
    assert (second["path"], second["request_id"]) == ("/a\u00e9", "mine")
    assert UUID(second["answer_id"])


async def test_line_with_what_is_no_text_is_written_nevertheless(edge_of, json_logs):
    edge = await edge_of()
    scope = {
        "type": "http", "method": "GET", "path": "/\udce9", "scheme": "http", "server": ("localhost", 80),
        "client": None, "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    await edge(scope, None, send)
    (line,) = requests(json_logs)
    assert line["path"] == "/\udce9"
    assert sent


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("warning", 0)])
async def test_level_is_respected(edge_of, json_logs, level, lines):
    edge = await edge_of()
    logging.getLogger().setLevel(level.upper())
    async with client_of(edge) as client:
        await client.get("/health")
    assert len(requests(json_logs)) == lines
