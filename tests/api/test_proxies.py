"""What is believed of proxies, and how the API answers below a prefix that one of them has taken off."""

import httpx
import pytest
from pydantic import ValidationError

from marquee.api.app import create_app
from marquee.api.proxies import BehindProxies
from marquee.config import Settings

PROXY = "192.0.2.1"
BROWSER = "text/html,*/*;q=0.8"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture
def ask(app):
    """Ask the application through what is told of proxies, as `sender`."""

    async def get(path, sender=PROXY, prefix="/api", **headers):
        transport = httpx.ASGITransport(BehindProxies(app, [PROXY]), client=(sender, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://example.org") as client:
            return await client.get(path, headers={"x-forwarded-prefix": prefix, **headers})

    return get


async def test_documents_name_the_prefix(ask):
    document = (await ask("/openapi.json")).json()
    assert document["servers"] == [{"url": "/api"}]
    assert "/v1/items" in document["paths"]
    for page in ("/docs", "/redoc"):
        text = (await ask(page)).text
        assert "/api/openapi.json" in text
        assert "/api/docs-assets/" in text
    assert (await ask("/docs-assets/swagger-ui.css")).status_code == 200


async def test_documents_of_direct_callers_name_none(ask):
    await ask("/openapi.json")
    assert "servers" not in (await ask("/openapi.json", prefix="")).json()
    assert '"/docs-assets/' in (await ask("/docs", prefix="")).text


@pytest.mark.parametrize(
    "prefix",
    ["api", "/", "//elsewhere.example", "/api/", "/a//b", "/../x", "/a b", "/api?x", "/a/b/c/d/e", "/é"],
)
async def test_what_is_no_path_is_no_prefix(ask, prefix):
    answer = await ask("/openapi.json", prefix=prefix.encode("latin-1"))
    assert "servers" not in answer.json()


async def test_prefix_of_a_stranger_is_not_believed(ask):
    assert "servers" not in (await ask("/openapi.json", sender="192.0.2.2")).json()


async def test_unknown_path_is_named_as_it_was_asked_for(ask):
    problem = (await ask("/nowhere")).json()
    assert problem["detail"] == "There is no GET /api/nowhere."


@pytest.mark.parametrize("path", ["/", "/films/1"])
async def test_site_is_not_found_below_the_prefix(ask, path):
    answer = await ask(path, accept=BROWSER)
    assert not answer.headers["content-type"].startswith("text/html")
    assert answer.status_code == (200 if path == "/" else 404)


async def test_roles_are_asked_for_below_the_prefix_too(ask):
    assert (await ask("/v1/keys")).status_code == 401


async def test_page_is_told_where_the_api_was_asked(ask):
    assert (await ask("/config.json")).json()["api"] == "/api"
    assert (await ask("/config.json", prefix="")).json()["api"] == ""


async def test_setting_tells_the_page_otherwise(tmp_path):
    for address in ("/elsewhere", "https://api.example.org/v0"):
        app = create_app(Settings(home=tmp_path, site={"api": address}))
        transport = httpx.ASGITransport(BehindProxies(app, [PROXY]), client=(PROXY, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://example.org") as client:
            for headers in ({}, {"x-forwarded-prefix": "/api"}):
                assert (await client.get("/config.json", headers=headers)).json()["api"] == address
            page = await client.get("/", headers={"accept": BROWSER})
        allowed = " https://api.example.org" if address.startswith("https") else ""
        assert f"connect-src 'self'{allowed};" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "address", ["api", "//elsewhere.example", "ftp://example.org", "/api; x", "https:///"]
)
def test_setting_that_is_neither_address_nor_path_is_refused(tmp_path, address):
    with pytest.raises(ValidationError, match=r"site\.api"):
        Settings(home=tmp_path, site={"api": address})
