"""What every answer has in its head, which sites may read it, and what the visitor's cookie is like."""

import re
from itertools import pairwise

import pytest

from marquee.api.credentials import COOKIE_SECONDS, Cookies
from marquee.store.secrets import read_secret

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

ALLOWED = "https://app.films.example"
ALWAYS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "same-origin"}
ANSWERS = [
    ("GET", "/", {}, 200),
    ("GET", "/", {"accept": "text/html"}, 200),
    ("GET", "/health", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/docs", {}, 200),
    ("GET", "/openapi.json", {}, 200),
    ("GET", "/config.json", {}, 200),
    ("GET", "/docs-assets/swagger-ui.css", {}, 200),
    ("GET", "/v1/overview", {}, 401),
    ("GET", "/health", {"authorization": "Bearer wrong"}, 401),
    ("GET", "/v1/nothing", {}, 404),
    ("GET", "/assets/nothing.js", {}, 404),
    ("GET", "/predict", {}, 405),
    ("POST", "/predict", {"content-length": "99999999"}, 413),
    ("GET", "/v1/items?limit=x", {}, 422),
    ("OPTIONS", "/v1/items", {"origin": ALLOWED, "access-control-request-method": "GET"}, 200),
    ("OPTIONS", "/v1/items", {"origin": "https://x", "access-control-request-method": "GET"}, 400),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), ANSWERS)
async def test_every_answer_has_the_security_headers_once(world, method, path, headers, status):
    async with world.client() as client:
        response = await client.request(method, path, headers=headers)
    assert response.status_code == status
    for name, value in ALWAYS.items():
        assert response.headers.get_list(name) == [value]
    assert "server" not in response.headers
    assert "x-powered-by" not in response.headers
    assert response.headers["x-request-id"]


async def test_nothing_that_is_someones_own_is_kept_by_caches(world):
    async with world.client() as client:
        for path in ("/v1/session", "/v1/users/5/recommendations"):
            response = await client.get(path, headers=world.bearer("viewer"))
            assert response.headers.get("cache-control") in ("no-store", None)
            assert "public" not in response.headers.get("cache-control", "")
        made = await client.post("/v1/session")
    assert made.headers["cache-control"] == "no-store"


ORIGINS = [
    "https://evil.example",
    "null",
    "",
    "*",
    "http://app.films.example",
    "https://app.films.example:8443",
    "https://app.films.example.evil.example",
    "https://evil.example/https://app.films.example",
    "https://evilapp.films.example",
    "https://app.films.example@evil.example",
    "https://app_films_example",
    "https://APP.films.example.",
    "https://app.films.example%60.evil.example",
    "https://app.films.example, https://evil.example",
    "https://films.example:443",
    "file://",
]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_other_origin_reads_nothing_and_changes_nothing(world, origin):
    """However much it looks like the one that may."""
    user_id = 4503599627370501
    async with world.client() as client:
        asked = {"origin": origin, "access-control-request-method": "DELETE"}
        preflight = await client.options(f"/v1/users/{user_id}", headers=asked)
        assert "access-control-allow-origin" not in preflight.headers
        read = await client.get("/v1/popular", headers={"origin": origin})
        assert "access-control-allow-origin" not in read.headers
        changed = await client.delete(
            f"/v1/users/{user_id}", headers={"origin": origin, **world.cookie(user_id)}
        )
    assert changed.status_code in (401, 403)
    assert "access-control-allow-origin" not in changed.headers


async def test_allowed_origin_reads_with_credentials_and_only_itself_is_named(world):
    async with world.client() as client:
        response = await client.get("/v1/session", headers={"origin": ALLOWED})
        assert response.headers["access-control-allow-origin"] == ALLOWED
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "origin" in response.headers["vary"].lower()
        ask = {"origin": ALLOWED, "access-control-request-method": "DELETE"}
        preflight = await client.options("/v1/users/5", headers=ask)
        assert preflight.headers["access-control-allow-origin"] == ALLOWED
        assert "TRACE" not in preflight.headers["access-control-allow-methods"]
        for name in ("x-forwarded-for", "idempotency-key-x", "cookie"):
            refused = await client.options(
                "/v1/users/5", headers={**ask, "access-control-request-headers": name}
            )
            assert refused.status_code == 400


async def test_cookie_is_for_this_site_alone_and_no_script_sees_it(world):
    async with world.client() as client:
        made = (await client.post("/v1/session")).headers["set-cookie"]
    async with world.client(base_url="http://films.example") as client:
        in_clear = (await client.post("/v1/session")).headers["set-cookie"]
    for cookie in (made, in_clear):
        parts = [part.strip() for part in cookie.split(";")]
        assert {"HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={COOKIE_SECONDS}"} <= set(parts)
        assert not [part for part in parts if part.lower().startswith("domain")]
    assert "Secure" in made
    assert "Secure" not in in_clear


async def test_new_secret_ends_all_cookies_and_each_cookie_differs_in_its_signature(tmp_path):
    """That is how an operator turns all visitors out: delete `cookies.key`, and start again."""
    first = Cookies(read_secret(tmp_path, "cookies"))
    cookies = [first.header_for(user_id, secure=True).partition(";")[0].encode() for user_id in range(5)]
    assert [first.user_of(cookie) for cookie in cookies] == list(range(5))
    (tmp_path / "cookies.key").unlink()
    second = Cookies(read_secret(tmp_path, "cookies"))
    assert [second.user_of(cookie) for cookie in cookies] == [None] * 5
    signatures = [cookie.rpartition(b".")[2] for cookie in cookies]
    assert all(one != other for one, other in pairwise(signatures))


async def test_secrets_of_ours_are_readable_by_their_owner_alone(tmp_path):
    folder = tmp_path / "secrets"
    for name in ("cookies", "erasures"):
        secret = read_secret(folder, name)
        assert len(secret) >= 32
        assert (folder / f"{name}.key").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


async def test_pages_let_no_script_in_but_their_own(world):
    async with world.client() as client:
        response = await client.get("/", headers={"accept": "text/html"})
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["cross-origin-opener-policy"] == "same-origin"


async def test_documentation_pages_load_nothing_from_elsewhere(world):
    async with world.client() as client:
        for path in ("/docs", "/redoc"):
            text = (await client.get(path)).text
            loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", text)
            assert loaded
            assert not [link for link in loaded if link.startswith(("http", "//"))]
