"""Every route, asked by everybody, against the table in docs/security.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from marquee.api.app import HOT
from marquee.api.ops import ops_app
from marquee.api.proxies import BehindProxies

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

DOCUMENT = Path(__file__).parents[2] / "docs/security.md"
CALLERS = ("no key", "visitor", "viewer", "service", "operator")
ME, OTHER = 4503599627370497, 4503599627370499
UNDOCUMENTED = {
    ("GET", "/openapi.json"): "/openapi.json",
    ("GET", "/docs"): "/docs",
    ("GET", "/docs/oauth2-redirect"): "/docs/oauth2-redirect",
    ("GET", "/redoc"): "/redoc",
    ("GET", "/docs-assets/{name}"): "/docs-assets/no-such-file",
    ("GET", "/metrics"): "/metrics",
    ("GET", "/config.json"): "/config.json",
    ("GET", "/{page}"): "/film/603",
    ("GET", "/assets/{name}"): "/assets/no-such-file",
    ("POST", "/{page}"): "/film/603",
}
"""What is served besides the OpenAPI document, with a path that stands for it."""
IN_PATHS = {
    "run_id": "0198a3c0-0000-7000-8000-000000000000",
    "item_id": "603",
    "experiment_id": "1",
    "version": "20261122T120000.000000Z-0123456789ab",
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route of the OpenAPI document."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path


def registered(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route that the framework knows, in the document or not."""
    for route in app.routes:
        inner = route.original_router.routes if hasattr(route, "original_router") else [route]
        for each in inner:
            path = each.path if hasattr(each, "methods") else f"{each.path}/{{name}}"
            for method in getattr(each, "methods", None) or {"GET"}:
                if method != "HEAD":
                    yield method, re.sub(r":\w+\}", "}", path)


def table() -> dict[tuple[str, str], tuple[str, ...]]:
    """The rows of the document: method and path → what each caller may."""
    rows = {}
    for line in DOCUMENT.read_text().splitlines():
        match = re.fullmatch(r"\| ([A-Z]+) \| `(/\S*)` \|((?: (?:yes|own|no) \|){5})", line)
        if match is not None:
            rows[match[1], match[2]] = tuple(cell.strip() for cell in match[3].strip("|").split("|"))
    return rows


def concrete(path: str, user_id: int) -> str:
    """A path without braces."""
    filled = {**IN_PATHS, "user_id": str(user_id)}
    return re.sub(r"\{(\w+)\}", lambda match: filled[match[1]], path)


async def outcomes(world, method: str, path: str, headers: dict[str, str], user_id: int) -> int:
    """The status of a request that asks for nothing in particular, and starts nothing that is waited for."""
    url = UNDOCUMENTED.get((method, path)) or concrete(path, user_id)
    query = {"wait": "false"} if method == "POST" else {}
    body = {} if method in ("POST", "PUT", "PATCH") else None
    async with world.client() as client:
        response = await client.request(method, url, params=query, headers=headers, json=body)
    assert response.status_code < 500 or response.status_code == 503, f"{method} {url}: {response.text}"
    return response.status_code


async def found(world, method: str, path: str) -> tuple[str, ...]:
    """What each caller may do there, by asking."""
    cells = []
    for caller in CALLERS:
        headers = {"no key": {}, "visitor": world.cookie(ME)}.get(caller)
        shown = world.bearer(caller) if headers is None else headers
        status = await outcomes(world, method, path, shown, OTHER)
        refusal = 401 if caller == "no key" else 403
        assert status == refusal or status not in (401, 403), f"{method} {path} answered {caller} {status}"
        may = status != refusal
        if caller == "visitor" and "{user_id}" in path and not may:
            own = await outcomes(world, method, path, shown, ME)
            cells.append("own" if own not in (401, 403) else "no")
        else:
            cells.append("yes" if may else "no")
    return tuple(cells)


async def test_table_has_a_row_for_each_route_and_none_for_others(world):
    every = {*routes(world.app), *UNDOCUMENTED}
    assert table().keys() == every
    assert set(registered(world.app)) <= every
    assert {(route.method, route.path) for route in HOT} <= every


async def test_everybody_may_do_what_the_table_says_and_nothing_else(world):
    documented = table()
    differing = []
    for (method, path), said in documented.items():
        is_so = await found(world, method, path)
        if is_so != said:
            differing.append(f"| {method} | `{path}` | {' | '.join(is_so)} |")
    assert not differing, "docs/security.md should say:\n" + "\n".join(differing)


@pytest.mark.parametrize("name", ["revoked", "garbage"])
async def test_key_that_is_not_valid_opens_no_route_at_all(world, name):
    for method, path in table():
        status = await outcomes(world, method, path, world.bearer(name), ME)
        assert status == 401, f"{method} {path}"
        with_cookie = await outcomes(world, method, path, {**world.cookie(ME), **world.bearer(name)}, ME)
        assert with_cookie == 401, f"{method} {path}"


async def test_document_names_the_roles_that_the_table_names(world):
    said = table()
    for path, operations in world.app.openapi()["paths"].items():
        for method, operation in operations.items():
            cells = said[method.upper(), path]
            needed = [one for entry in operation.get("security", []) for one in entry]
            assert ("key" in needed) == (cells[0] == "no"), f"{method} {path}"
            assert ("visitor" in needed) == (cells[0] == "no" and cells[1] != "no"), f"{method} {path}"


@pytest.mark.parametrize("name", ["operator", "service", "viewer", "no key"])
async def test_head_and_other_spellings_of_a_path_open_nothing_more(world, name):
    """What needs a role needs it too with another method, a slash more, other letters, or escapes."""
    headers = {} if name == "no key" else world.bearer(name)
    spellings = ("/run/train/", "/RUN/train", "/run%2Ftrain", "//run/train", "/./run/train", "/run/train;x")
    async with world.client() as client:
        for path in ("/v1/overview", "/v1/models", "/v1/users/5/history", "/v1/runs/7/logs"):
            got = await client.get(path, headers=headers)
            assert (await client.head(path, headers=headers)).status_code == got.status_code
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post"):
            for path in spellings:
                response = await client.request(method, path, headers=headers)
                allowed = {404, 405, 422} if name == "operator" else {401, 403}
                if method == "OPTIONS":
                    allowed = {401, 403, 404, 405}
                assert response.status_code in allowed, f"{method} {path}: {response.text}"


async def test_method_override_headers_are_not_heard(world):
    async with world.client() as client:
        for header in ("x-http-method-override", "x-http-method", "x-method-override"):
            response = await client.get("/v1/items", headers={header: "DELETE"})
            assert response.status_code == 200
        for header in ("x-original-url", "x-rewrite-url"):
            response = await client.get("/v1/overview", headers={header: "/health"})
            assert response.status_code == 401


async def test_port_of_the_operator_serves_three_paths_and_changes_nothing(world):
    app = ops_app(world.app.state.services)
    assert {(route.path, *sorted(route.methods)) for route in app.routes} == {
        (path, "GET", "HEAD") for path in ("/livez", "/readyz", "/metrics")
    }


@pytest.mark.parametrize("prefix", ["/api", "/run", "/v1/users", "/docs"])
async def test_prefix_that_a_proxy_names_moves_no_path_past_its_check(world, prefix):
    """Neither a path with the prefix still on it, nor one without, is another path to the check of roles."""
    behind = httpx.ASGITransport(BehindProxies(world.app, ["192.0.2.1"]), client=("192.0.2.1", 50_000))
    async with httpx.AsyncClient(transport=behind, base_url="https://films.example") as client:
        for method, path in (("GET", "/v1/overview"), ("POST", "/run/train"), ("GET", "/v1/users/5/history")):
            for sent in (path, f"{prefix}{path}"):
                headers = {"x-forwarded-prefix": prefix, "x-forwarded-for": "127.0.0.1"}
                response = await client.request(method, sent, headers=headers)
                assert response.status_code in (401, 404), f"{method} {sent}: {response.text}"
