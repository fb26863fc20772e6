"""Whom the servers ask by themselves: addresses of the settings alone, never one that a caller names."""

import ast
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from pydantic import SecretStr

from marquee.api.alertmanager import open_alerts
from marquee.config import TmdbSettings
from marquee.errors import MarqueeError, SourceUnavailableError
from marquee.ingest.tmdb_client import TmdbClient

SOURCE = Path(__file__).parents[2] / "src/marquee"
ASKING = {
    "api/alertmanager.py",  # MARQUEE_API__ALERTMANAGER_URL
    "cli/checks.py",  # the doctor: the API of this machine
    "cli/data.py",  # `simulate`: the address that the person at the command gives
    "ingest/tmdb_client.py",  # MARQUEE_TMDB__BASE_URL
    "monitoring/stack.py",  # the doctor of `ops`
    "simulate/live.py",
    "telemetry/traces.py",  # MARQUEE_TRACE__URL
}
"""All that has an HTTP client; S3 and MLflow have their libraries', with addresses of the settings."""


def modules_that_import(names: set[str]) -> set[str]:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(name in names or name.partition(".")[0] in names for name in imported):
                found.add(path.relative_to(SOURCE).as_posix())
    return found


def test_http_clients_are_where_they_are_known_to_be():
    assert modules_that_import({"httpx", "requests", "aiohttp", "urllib.request", "urllib3"}) == ASKING


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_no_request_names_an_address_that_is_then_asked(world):
    """Of all members and parameters only these are addresses, and browsers alone follow them."""
    document = world.app.openapi()
    sent = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            sent |= {parameter["name"] for parameter in operation.get("parameters", ())}
            body = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            )
            sent |= members(body, document["components"]["schemas"], set())
    addresses = {
        n for n in sent if re.search(r"ur[li]|path|host|endpoint|callback|webhook|file|link|image", n)
    }
    assert addresses == {"poster_path", "backdrop_path"}


def members(schema: object, schemas: dict, seen: set[str]) -> set[str]:
    """Names of the members of a schema, at any depth."""
    found: set[str] = set()
    if isinstance(schema, list):
        return found.union(*(members(one, schemas, seen) for one in schema))
    if not isinstance(schema, dict):
        return found
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        seen.add(name)
        found |= members(schemas[name], schemas, seen)
    for key, value in schema.items():
        if key == "properties":
            found |= set(value)
            found |= members(list(value.values()), schemas, seen)
        elif key not in ("example", "examples", "default", "$ref"):
            found |= members(value, schemas, seen)
    return found


class Redirecting(BaseHTTPRequestHandler):
    """Sends everybody to the address of a cloud's metadata, and counts who came."""

    asked: list[str] = []  # noqa: RUF012 - one server at a time

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('authorization')}")
        self.send_response(302)
        self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/latest/meta-data/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def redirecting():
    Redirecting.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_alertmanager_that_sends_elsewhere_is_not_followed(redirecting):
    with pytest.raises(SourceUnavailableError, match="302"):
        await open_alerts(redirecting)
    assert len(Redirecting.asked) == 1


async def test_tmdb_that_sends_elsewhere_is_not_followed_with_the_key(redirecting):
    settings = TmdbSettings(base_url=f"{redirecting}/3", bearer_token=SecretStr("tmdb-Pl4nted"))
    client = TmdbClient(settings)
    with pytest.raises(MarqueeError) as caught:
        await client.get("movie/603")
    await client.aclose()
    assert len(Redirecting.asked) == 1
    assert "tmdb-Pl4nted" not in str(caught.value)


def test_library_follows_no_redirects_by_itself():
    """The two tests above rest on it; no module of ours asks for more."""
    with httpx.Client() as client:
        assert client.follow_redirects is False
    assert not [path for path in SOURCE.rglob("*.py") if "follow_redirects=True" in path.read_text()]
