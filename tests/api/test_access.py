"""Who is let in where: by role, by the machine that asks, by cookie; and what never reaches a log."""

import asyncio
import contextlib
import io
import json
from uuid import UUID

import httpx
import psycopg
import pytest
import pytest_asyncio
import structlog

from marquee.api.access import Access, Caller, may, needed_roles
from marquee.config import LogSettings, Settings
from marquee.errors import ConfigError
from marquee.store.postgres import Database
from marquee.store.repositories import keys
from marquee.telemetry import configure_logs

ALL = {"anonymous", "visitor", "viewer", "service", "operator"}
READERS = {"viewer", "service", "operator"}
ME, OTHER = 4503599627370497, 4503599627370498

MATRIX = [
    ("GET", "/", ALL),
    ("GET", "/docs", ALL),
    ("GET", "/health", ALL),
    ("GET", "/readyz", ALL),
    ("GET", "/latest-recommendations", ALL),
    ("POST", "/predict", ALL),
    ("POST", "/v1/session", ALL),
    ("GET", "/v1/popular", ALL),
    ("GET", "/v1/items", ALL),
    ("GET", "/v1/items/7/similar", ALL),
    ("POST", "/v1/recommendations", ALL),
    ("GET", "/v1/runs", ALL),
    ("GET", "/v1/runs/7/logs", {"operator"}),
    ("POST", "/v1/runs/7/cancel", {"operator"}),
    ("POST", "/run/pipeline", {"operator"}),
    ("GET", "/v1/overview", {"operator"}),
    ("GET", "/v1/outcomes", {"operator"}),
    ("GET", "/v1/drift", {"operator"}),
    ("GET", "/v1/alerts", {"operator"}),
    ("GET", "/v1/quarantine", {"operator"}),
    ("GET", "/v1/quarantine/summary", {"operator"}),
    ("GET", "/v1/catalogue/summary", {"operator"}),
    ("GET", "/v1/experiments/1/history", {"operator"}),
    ("GET", f"/v1/users/{ME}/recommendations", READERS | {"visitor"}),
    ("GET", f"/v1/users/{ME}/export", READERS | {"visitor"}),
    ("DELETE", f"/v1/users/{ME}", {"visitor", "service", "operator"}),
    ("GET", f"/v1/users/{OTHER}/history", READERS),
    ("GET", f"/v1/users/0{ME}/history", READERS),
    ("GET", f"/v1/users/+{ME}/history", READERS),
    ("GET", f"/v1/users/{ME}.0/history", READERS),
    ("DELETE", f"/v1/users/{OTHER}", {"service", "operator"}),
    ("GET", "/v1/users", READERS),
    ("GET", f"/v1/users/{ME}", READERS | {"visitor"}),
    ("GET", f"/v1/users/{OTHER}", READERS),
    ("GET", "/v1/session", ALL),
    ("GET", "/v1/genres", ALL),
    ("POST", "/v1/events", {"visitor", "service", "operator"}),
    ("POST", "/v1/recommendations/batch", READERS),
    ("GET", "/v1/models", READERS),
    ("GET", "/v1/models/ease/20261122", READERS),
    ("GET", "/v1/models/ease/20261122/recommendations", {"operator"}),
    ("GET", "/v1/experiments", READERS),
    ("POST", "/v1/models/promote", {"operator"}),
    ("POST", "/v1/experiments", {"operator"}),
    ("DELETE", "/v1/experiments/1", {"operator"}),
    ("GET", "/v1/keys", {"operator"}),
    ("PUT", "/v1/items", {"operator"}),
    ("PATCH", "/v1/items/7", {"operator"}),
    ("DELETE", "/v1/items/7", {"operator"}),
    ("POST", "/run/train", {"operator"}),
    ("GET", "/run/train", {"operator"}),
    ("POST", "/anything/else", {"operator"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), MATRIX, ids=[f"{m} {p}" for m, p, _ in MATRIX])
def test_path_is_open_to_the_roles_it_names(method, path, allowed):
    open_to = {
        role for role in ALL if may(Caller(role, ME if role == "visitor" else None, None, "x"), method, path)
    }
    assert open_to == allowed


def test_caller_acts_as_itself_and_services_as_anybody():
    acts = {role: Caller(role, ME, None, "x").may_act_as for role in ALL}
    assert {role for role in ALL if acts[role](ME)} == {"visitor", "service", "operator"}
    assert {role for role in ALL if acts[role](OTHER)} == {"service", "operator"}


def test_head_needs_what_get_needs():
    for method, path, _ in MATRIX:
        if method == "GET":
            assert needed_roles("HEAD", path) == needed_roles("GET", path)


def assert_refused(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"/problems/{'unauthorized' if status == 401 else 'forbidden'}"
    assert problem["fix"]
    assert UUID(response.headers["x-request-id"])
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
    return problem


def fresh(postgres, name):
    """The URL of a database that the tests of this module share, and a key of each role in it."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_marquee STRATEGY file_copy")
    return postgres.url_of(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_unlocked(postgres, tmp_path_factory, running):
    home, url = tmp_path_factory.mktemp("home"), fresh(postgres, "test_access_unlocked")
    async with running(Settings(home=home, database={"url": url})) as pair:
        yield pair


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_locked(postgres, tmp_path_factory, running):
    home, url = tmp_path_factory.mktemp("home"), fresh(postgres, "test_access_locked")
    settings = Settings(home=home, database={"url": url})
    with Database.open(settings) as database, database.begin() as connection:
        made = {role: keys.create(connection, role, role)[1] for role in ("viewer", "service", "operator")}
        connection.exec_driver_sql("INSERT INTO users (user_id, kind) VALUES (1, 'virtual'), (2, 'live')")
    async with running(settings) as (client, app):
        yield client, app, made


shared = pytest.mark.asyncio(loop_scope="module")


async def settled(app):
    """The application's loop stands still while other tests run; whatever timed out is done again."""
    services = app.state.services
    async with asyncio.timeout(60):
        while not (services.database_is_up and services.access.keys.readable):
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(loop_scope="module")
async def unlocked(shared_unlocked):
    """A client of an application without any key, and the application, for tests that make none."""
    await settled(shared_unlocked[1])
    return shared_unlocked


@pytest_asyncio.fixture(loop_scope="module")
async def locked(shared_locked):
    """A client, the application, and a key of each role, for tests that make no more."""
    await settled(shared_locked[1])
    return shared_locked


@pytest.fixture
def key_of(database):
    """Make a key of a role."""

    def make(role):
        with database.begin() as connection:
            return keys.create(connection, "test", role)[1]

    return make


@contextlib.asynccontextmanager
async def from_address(app, address, base_url="http://localhost"):
    transport = httpx.ASGITransport(app, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


def bearer(key):
    return {"authorization": f"Bearer {key}"}


OPERATORS_ONLY = "/v1/keys"  # 404 for those who are let through


@pytest.mark.integration
class TestLoopback:
    """Before the first key."""

    @shared
    async def test_person_at_the_machine_is_its_operator(self, unlocked):
        client, _ = unlocked
        assert (await client.get(OPERATORS_ONLY)).status_code == 404
        assert (await client.get(OPERATORS_ONLY, headers={"origin": "http://localhost"})).status_code == 404
        assert (await client.get("/v1/users/5/history")).status_code != 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"host": "localhost.evil.example"},
            {"host": "localhost:9999"},
            {"host": ""},
            {"origin": "http://evil.example"},
            {"origin": "https://localhost"},
            {"origin": "http://localhost:9999"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"forwarded": "for=1.2.3.4"},
            {"x-forwarded-for": "127.0.0.1"},
            {"X-Forwarded-Proto": "http"},
            {"x-forwarded-anything": "1"},
            {"x-real-ip": "127.0.0.1"},
            {"via": "1.1 proxy"},
        ],
        ids=str,
    )
    @shared
    async def test_request_that_may_come_from_elsewhere_is_not_trusted(self, unlocked, headers):
        client, _ = unlocked
        problem = assert_refused(await client.post("/run/train", headers=headers), 401)
        assert "marquee keys create" in problem["fix"]
        assert (await client.get("/health", headers=headers)).status_code == 200

    @shared
    async def test_other_machine_is_not_trusted(self, unlocked):
        async with from_address(unlocked[1], "192.0.2.7") as client:
            assert_refused(await client.get(OPERATORS_ONLY), 401)
            assert (await client.get("/health")).status_code == 200

    @shared
    async def test_port_is_part_of_the_name(self, unlocked):
        async with from_address(unlocked[1], "127.0.0.1", "http://localhost:8000") as client:
            assert (await client.get(OPERATORS_ONLY)).status_code == 404
            assert_refused(await client.get(OPERATORS_ONLY, headers={"host": "localhost"}), 401)
        async with from_address(unlocked[1], "::1", "http://[::1]:8000") as client:
            assert (await client.get(OPERATORS_ONLY)).status_code == 404

    @pytest.mark.parametrize(
        "change", [{"host": "0.0.0.0"}, {"api": {"trusted_proxies": ("127.0.0.1",)}}], ids=["host", "proxies"]
    )
    async def test_trust_ends_where_others_may_reach_the_port(self, settings, running, change):
        changed = Settings(home=settings.home, database=settings.database, **change)
        async with running(changed) as (client, _):
            assert_refused(await client.get(OPERATORS_ONLY), 401)

    async def test_trust_ends_with_the_first_key_and_stays_ended_when_it_is_revoked(
        self, client, services, key_of, database
    ):
        assert services.access.trusts_loopback
        key = key_of("operator")
        await services.access.keys.refresh(services.run)
        assert_refused(await client.get(OPERATORS_ONLY), 401)
        assert (await client.get(OPERATORS_ONLY, headers=bearer(key))).status_code == 404
        with database.begin() as connection:
            keys.revoke(connection, key.split("_")[1])
        await services.access.keys.refresh(services.run)
        assert not services.access.trusts_loopback
        assert_refused(await client.get(OPERATORS_ONLY, headers=bearer(key)), 401)

    async def test_key_is_heard_of_without_being_asked_for(self, client, services, key_of):
        key = key_of("operator")
        async with asyncio.timeout(60):
            while (await client.get(OPERATORS_ONLY)).status_code != 401:
                await asyncio.sleep(0.01)
        assert (await client.get(OPERATORS_ONLY, headers=bearer(key))).status_code == 404

    async def test_unreadable_keys_end_trust_but_not_service(self, settings, running, database_url, key_of):
        async with running(settings) as (client, app):
            services = app.state.services
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("ALTER TABLE api_keys RENAME TO away")
                await services.access.keys.refresh(services.run)
                assert_refused(await client.get(OPERATORS_ONLY), 401)
                assert (await client.get("/health", headers=bearer("mq_a_b"))).status_code == 200
                assert_refused(await client.get(OPERATORS_ONLY, headers=bearer("mq_a_b")), 401)
                connection.execute("ALTER TABLE away RENAME TO api_keys")
                await services.access.keys.refresh(services.run)
                assert (await client.get(OPERATORS_ONLY)).status_code == 404


@pytest.mark.integration
class TestKeys:
    """Once there are keys."""

    @shared
    async def test_each_role_opens_its_doors(self, locked):
        client, _, made = locked
        for role, key in made.items():
            status = (await client.get(OPERATORS_ONLY, headers=bearer(key))).status_code
            assert status == (404 if role == "operator" else 403)
            assert (await client.get("/v1/users/5/history", headers=bearer(key))).status_code == 200
        problem = assert_refused(await client.post("/run/train", headers=bearer(made["service"])), 403)
        assert "operator" in problem["detail"]
        assert_refused(await client.get("/v1/users/5/history"), 401)

    @pytest.mark.parametrize("key", ["", "mq_", "mq_0123456789_wrong", "x" * 5000, "\u00e9"])
    @shared
    async def test_wrong_key_is_told_so_even_on_open_paths(self, locked, key):
        client = locked[0]
        headers = {"authorization": f"Bearer {key}".encode()}
        assert_refused(await client.get("/health", headers=headers), 401)

    @shared
    async def test_other_schemes_are_not_ours(self, locked):
        client = locked[0]
        assert (await client.get("/health", headers={"authorization": "Basic YTpi"})).status_code == 200

    @shared
    async def test_scheme_is_read_in_any_case(self, locked):
        client, _, made = locked
        headers = {"authorization": f"bEARER {made['operator']}"}
        assert (await client.get(OPERATORS_ONLY, headers=headers)).status_code == 404

    async def test_last_use_is_recorded_at_the_end_and_at_most_each_minute(
        self, key_of, settings, running, database
    ):
        key = key_of("viewer")
        async with running(settings) as (client, app):
            await client.get("/health", headers=bearer(key))
            await app.state.access.keys.refresh(app.state.services.run)
            with database.begin() as connection:
                assert keys.everything(connection)[0].last_used_at is None
        with database.begin() as connection:
            assert keys.everything(connection)[0].last_used_at is not None

    async def test_known_keys_stay_valid_while_the_table_is_away(
        self, key_of, settings, running, database_url
    ):
        key = key_of("operator")
        async with running(settings) as (client, app):
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("ALTER TABLE api_keys RENAME TO away")
                await app.state.access.keys.refresh(app.state.services.run)
                assert (await client.get(OPERATORS_ONLY, headers=bearer(key))).status_code == 404
                connection.execute("ALTER TABLE away RENAME TO api_keys")

    async def test_operator_key_file_is_valid_from_the_start_and_ends_trust(
        self, settings, running, tmp_path
    ):
        file = tmp_path / "key"
        file.write_text("0123456789abcdef0123456789abcdef\n")
        changed = Settings(home=settings.home, database=settings.database, operator_key_file=file)
        async with running(changed) as (client, _):
            assert_refused(await client.get(OPERATORS_ONLY), 401)
            key = "0123456789abcdef0123456789abcdef"
            assert (await client.get(OPERATORS_ONLY, headers=bearer(key))).status_code == 404

    @pytest.mark.parametrize("content", [None, "short", "with spaces " * 10])
    def test_operator_key_file_that_cannot_serve_is_named(self, tmp_path, content):
        file = tmp_path / "key"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigError, match="MARQUEE_OPERATOR_KEY_FILE"):
            Access(Settings(home=tmp_path, operator_key_file=file))


@pytest.fixture
def visited(locked):
    """A client without a cookie, who is no operator, and the application."""
    client, app, _ = locked
    client.cookies.clear()
    return client, app


@pytest.mark.integration
class TestVisitors:
    @shared
    async def test_visitor_gets_a_user_of_their_own_and_keeps_it(self, visited):
        client, _ = visited
        response = await client.post("/v1/session")
        cookie = response.headers["set-cookie"]
        for part in ("marquee_session=", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="):
            assert part in cookie
        assert "Secure" not in cookie
        user_id = response.json()["user_id"]
        assert 2**52 <= user_id < 2**53
        assert (await client.post("/v1/session")).json()["user_id"] == user_id
        assert (await client.get(f"/v1/users/{user_id}/history")).status_code == 200
        assert_refused(await client.get(f"/v1/users/{user_id + 1}/history"), 403)
        assert_refused(await client.post("/run/train"), 403)
        client.cookies.clear()
        assert (await client.post("/v1/session")).json()["user_id"] != user_id

    @shared
    async def test_cookie_is_secure_over_tls(self, visited):
        async with from_address(visited[1], "127.0.0.1", "https://example.org") as client:
            assert "; Secure" in (await client.post("/v1/session")).headers["set-cookie"]

    @shared
    async def test_forged_cookie_is_none(self, visited):
        client, app = visited
        cookie = app.state.access.cookies.header_for(ME, secure=False).partition(";")[0]
        headers = {"cookie": f"theme=dark; {cookie}; x_marquee_session=1"}
        assert (await client.get(f"/v1/users/{ME}/history", headers=headers)).status_code == 200
        value = cookie.partition("=")[2]
        user, stamp, signature = value.split(".")
        other = app.state.access.cookies.header_for(OTHER, secure=False).partition(";")[0].partition("=")[2]
        for forged in (
            f"{user}.{stamp}.{signature.swapcase()}",
            f"{OTHER}.{stamp}.{signature}",
            f"{user}.{stamp}",
            f"{user}.{other.partition('.')[2]}",
            f"{OTHER}",
            "",
            "\udce9",
            "x" * 5000,
        ):
            header = {"cookie": f"marquee_session={forged}".encode("utf-8", "surrogateescape")}
            for user_id in (ME, OTHER):
                assert_refused(await client.get(f"/v1/users/{user_id}/history", headers=header), 401)

    @shared
    async def test_cookie_that_is_too_old_is_none(self, visited):
        client, app = visited
        cookie = app.state.access.cookies.header_for(ME, secure=False).partition(";")[0]
        headers = {"cookie": cookie}
        assert (await client.get(f"/v1/users/{ME}/history", headers=headers)).status_code == 200
        app.state.access.cookies._kept[cookie.partition("=")[2].encode()] = (ME, 0.0)
        assert_refused(await client.get(f"/v1/users/{ME}/history", headers=headers), 401)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": "http://localhost"}, None),
            ({"origin": "https://localhost"}, None),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({}, None),
        ],
        ids=str,
    )
    @shared
    async def test_page_of_another_site_changes_nothing(self, visited, headers, status):
        client, _ = visited
        user_id = (await client.post("/v1/session")).json()["user_id"]
        response = await client.delete(f"/v1/users/{user_id}", headers=headers)
        if status is None:
            assert response.status_code not in (401, 403)
        else:
            assert_refused(response, status)

    @shared
    async def test_playing_others_needs_demo_mode(self, visited):
        client, _ = visited
        assert_refused(await client.post("/v1/session", json={"user_id": 1}), 403)
        assert (await client.post("/v1/session", json={})).status_code == 200
        assert (await client.post("/v1/session", json={"user_id": "1"})).status_code == 422

    @shared
    async def test_demo_mode_plays_virtual_users_only(self, visited, monkeypatch):
        client, app = visited
        services = app.state.services
        monkeypatch.setattr(services, "settings", services.settings.model_copy(update={"demo": True}))
        assert (await client.post("/v1/session", json={"user_id": 1})).json() == {"user_id": 1}
        assert (await client.get("/v1/users/1/history")).status_code == 200
        for nobody in (2, 3):
            assert (await client.post("/v1/session", json={"user_id": nobody})).status_code == 404

    @shared
    async def test_who_played_somebody_becomes_themselves_again(self, visited, monkeypatch):
        client, app = visited
        services = app.state.services
        monkeypatch.setattr(services, "settings", services.settings.model_copy(update={"demo": True}))
        own = (await client.post("/v1/session")).json()["user_id"]
        for _ in range(2):
            assert (await client.post("/v1/session", json={"user_id": 1})).json() == {"user_id": 1}
            assert (await client.get("/v1/session")).json()["user_id"] == 1
        assert (await client.post("/v1/session")).json() == {"user_id": own}
        assert (await client.get("/v1/session")).json()["user_id"] == own

    @shared
    async def test_erased_visitor_begins_anew(self, visited):
        client, _ = visited
        user_id = (await client.post("/v1/session")).json()["user_id"]
        assert (await client.delete(f"/v1/users/{user_id}")).is_success
        assert (await client.post("/v1/session")).json()["user_id"] != user_id

    @shared
    async def test_person_at_the_machine_who_visits_stays_operator(self, unlocked):
        client, _ = unlocked
        user_id = (await client.post("/v1/session")).json()["user_id"]
        assert (await client.post("/v1/session")).json()["user_id"] == user_id
        assert (await client.get(OPERATORS_ONLY)).status_code == 404
        client.cookies.clear()


@pytest.mark.integration
async def test_no_secret_reaches_a_log(json_logs, settings, running, key_of, monkeypatch):
    """Keys and cookies in every place where a client may put them, also where the server then breaks."""
    key, cookie_secret = key_of("operator"), "cookie-planted-4711"
    async with running(settings) as (client, app):
        headers = {**bearer(key), "cookie": f"marquee_session={cookie_secret}", "x-request-id": "find-me"}
        await client.get(f"/v1/runs/{key}", headers=headers)
        await client.post(f"/{key}?key={key}", headers=headers, content=key)
        await client.get("/health", headers={**headers, "authorization": f"Bearer {key}x"})
        monkeypatch.setattr(app.state, "services", None)
        assert (await client.get("/health", headers=headers)).status_code == 500
        monkeypatch.undo()
    lines = json_logs()
    written = json.dumps(lines)
    assert written.count("find-me") >= 4
    assert "api.failed" in written
    for secret in (key, key.split("_", 2)[2], cookie_secret):
        assert secret not in written
    assert {line["key_id"] for line in lines if "key_id" in line} == {key.split("_")[1]}


@pytest.mark.usefixtures("json_logs")
def test_traceback_for_a_terminal_shows_no_values():
    stream = io.StringIO()
    configure_logs(LogSettings(format="console"), stream=stream)
    secret = "mq_0123456789_planted"
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        structlog.stdlib.get_logger("marquee").exception("broke", key=secret)
    assert "RuntimeError" in stream.getvalue()
    assert "planted" not in stream.getvalue()
    assert "secret =" not in stream.getvalue()
