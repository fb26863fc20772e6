"""The site around a small build of it: which client gets what at which address."""

import httpx
import pytest
from prometheus_client import REGISTRY

from marquee import __version__
from marquee.api.app import create_app
from marquee.config import Settings

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
PAGE = (
    '<!doctype html><html lang="en"><div id="root"></div><script src="/assets/app-1a2b.js"></script></html>'
)
SCRIPT = b"export const answer = 42;\n" * 200
SECRET = "what nobody is to read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A build, beside something that is none of it."""
    around = tmp_path_factory.mktemp("site")
    built = around / "built"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text(PAGE)
    (built / "favicon.svg").write_text("<svg/>")
    (built / "assets" / "app-1a2b.js").write_bytes(SCRIPT)
    (built / "assets" / "app-1a2b.js.map").write_text("{}")
    (built / "assets" / "shop-3c4d.css").write_bytes(b"a{color:red}\n" * 200)
    (built / "assets" / "shop-3c4d.css.br").write_bytes(b"packed by the build")
    (built / "assets" / "still-5e6f.png").write_bytes(bytes(4096))
    (built / ".env").write_text(SECRET)
    (around / "secret.txt").write_text(SECRET)
    return built


@pytest.fixture
def open_site(tmp_path):
    """A client of the application with settings of the site; neither database nor model is there."""

    def make(folder, **values):
        site = {"folder": folder, **values.pop("site", {})}
        return client_of(create_app(Settings(home=tmp_path / "home", site=site, **values)))

    return make


@pytest.fixture(scope="module")
def app(folder):
    return create_app(Settings(home=folder.parent / "home", site={"folder": folder}))


@pytest.fixture
def client(app):
    return client_of(app)


def client_of(app, address="127.0.0.1"):
    # Of its own accord the client would accept compressed answers.
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(address, 50_000)),
        base_url="http://localhost",
        headers={"accept-encoding": "identity"},
    )


async def browse(client, path, **headers):
    return await client.get(path, headers={"accept": BROWSER, **headers})


async def test_browser_gets_the_page_and_other_clients_the_greeting(client):
    page = await browse(client, "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == PAGE
    greeting = await client.get("/")
    assert greeting.json() == {"message": "Marquee is running. See /docs."}
    assert "accept" in page.headers["vary"].split(", ")
    assert greeting.headers["vary"] == "accept"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/html, */*", True),
        ("application/json;q=0.5, text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=0.1, */*", False),
        ("text/html;q=much", False),
        (";;;,=,q=", False),
    ],
)
async def test_only_who_would_rather_read_html_gets_the_page(client, accept, html):
    answer = await client.get("/", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/html") == html


async def test_page_lets_nothing_in_but_its_own_files_and_posters(client):
    headers = (await browse(client, "/")).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data: https://image.tmdb.org; font-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-request-id"]


async def test_policy_names_the_hosts_of_the_settings(open_site, folder):
    site = {"images": "https://cdn.example.org:8443/posters", "api": "https://api.example.org/v0"}
    async with open_site(folder, site=site) as client:
        policy = (await browse(client, "/")).headers["content-security-policy"]
        assert "img-src 'self' data: https://cdn.example.org:8443;" in policy
        assert "connect-src 'self' https://api.example.org;" in policy
        options = (await client.get("/config.json")).json()
        assert (options["images"], options["api"]) == (site["images"], site["api"])


@pytest.mark.parametrize("path", ["/ops", "/ops/runs/1", "/films/27205", "/films/", "/nowhere", "/v1x"])
async def test_address_that_only_the_page_knows_is_the_page_after_a_reload(client, path):
    page = await browse(client, path)
    assert (page.status_code, page.text) == (200, PAGE)
    assert "content-security-policy" in page.headers
    for headers in ({}, {"accept": "application/json"}):
        unknown = await client.get(path, headers=headers)
        assert unknown.status_code == 404
        assert unknown.json()["type"] == "/problems/unknown-path"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nowhere", 404),
        ("/v1/", 404),
        ("/run/nothing", 401),
        ("/assets/gone-0.js", 404),
        ("/assets/", 404),
        ("//films/1", 404),
    ],
)
async def test_path_of_the_api_or_of_assets_is_never_the_page(client, path, status):
    answer = await client.get(f"http://localhost{path}", headers={"accept": BROWSER})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_routes_of_the_api_come_first(client):
    assert (await browse(client, "/openapi.json")).json()["info"]["title"] == "Marquee"
    assert "swagger" in (await browse(client, "/docs")).text
    assert (await browse(client, "/predict")).status_code == 405
    assert (await client.post("/films/27205", headers={"accept": BROWSER})).status_code == 401
    assert (await client.options("/films/27205", headers={"accept": BROWSER})).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/%2fetc/passwd",
        "/.env",
        "/assets/%00",
        "/assets/app-1a2b.js.map",
        "/assets/shop-3c4d.css.br",
    ],
)
async def test_no_path_leads_out_of_the_build(client, path):
    for accept in (BROWSER, "*/*"):
        answer = await client.get(path, headers={"accept": accept})
        assert SECRET not in answer.text
        assert answer.status_code == 404 or answer.text == PAGE


async def test_assets_are_kept_for_ever_and_everything_else_is_asked_for_again(client):
    script = await client.get("/assets/app-1a2b.js")
    assert script.content == SCRIPT
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/", "/favicon.svg", "/config.json"):
        first = await browse(client, path)
        assert first.headers["cache-control"] == "no-cache"
        again = await browse(client, path, **{"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        other = await browse(client, path, **{"if-none-match": 'W/"0123"'})
        assert other.status_code == 200


async def test_assets_come_compressed_to_who_takes_it(client):
    path = "/assets/app-1a2b.js"
    assert "content-encoding" not in (await client.get(path)).headers
    # Twice: the second is what the first has made.
    for _ in range(2):
        packed = await client.get(path, headers={"accept-encoding": "gzip, deflate, br"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["vary"] == "accept-encoding"
        assert int(packed.headers["content-length"]) < len(SCRIPT) / 10
        assert packed.content == SCRIPT
    refused = await client.get(path, headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


async def test_what_the_build_has_compressed_is_sent_as_it_is(client):
    async with client.stream(
        "GET", "/assets/shop-3c4d.css", headers={"accept-encoding": "br, gzip"}
    ) as answer:
        assert answer.headers["content-encoding"] == "br"
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        assert b"".join([part async for part in answer.aiter_raw()]) == b"packed by the build"


async def test_pictures_and_small_files_are_not_compressed(client):
    for path in ("/assets/still-5e6f.png", "/favicon.svg"):
        answer = await client.get(path, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers


async def test_head_says_what_get_would(client):
    for path in ("/", "/films/1", "/assets/app-1a2b.js", "/config.json"):
        got = await browse(client, path)
        head = await client.head(path, headers={"accept": BROWSER})
        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-type", "content-length", "etag", "cache-control"):
            assert head.headers[name] == got.headers[name]


async def test_options_of_the_page_are_the_settings(open_site, folder):
    async with open_site(folder) as client:
        assert (await client.get("/config.json")).json() == {
            "api": "",
            "demo": False,
            "version": __version__,
            "languages": ["en", "ko"],
            "images": "https://image.tmdb.org/t/p",
            "links": {"mlflow": None, "airflow": None, "grafana": None},
        }
    site = {"languages": "ko", "mlflow_url": "http://localhost:5001"}
    async with open_site(folder, demo=True, site=site) as client:
        options = (await client.get("/config.json")).json()
        assert (options["demo"], options["languages"]) == (True, ["ko"])
        assert options["links"]["mlflow"] == "http://localhost:5001"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a.org; script-src *", "https://a.org b"])
def test_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="images"):
        Settings(site={"images": url})


async def test_without_a_build_the_page_says_how_to_make_it(open_site, tmp_path):
    async with open_site(tmp_path / "nothing") as client:
        page = await browse(client, "/")
        assert page.status_code == 200
        assert "make web" in page.text
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert (await browse(client, "/films/1")).status_code == 404
        assert (await client.get("/config.json")).status_code == 200
        assert (await client.get("/")).json()["message"]


async def test_page_and_its_files_load_at_once_from_another_machine(app):
    client = client_of(app, "192.0.2.7")
    paths = ["/", "/config.json", *["/assets/app-1a2b.js"] * 60]
    assert {(await browse(client, path)).status_code for path in paths} == {200}


async def test_metrics_know_pages_and_assets_by_their_kind(client):
    def count(route):
        labels = {"method": "GET", "route": route, "status": "200"}
        return REGISTRY.get_sample_value("marquee_http_requests_total", labels) or 0

    before = {route: count(route) for route in ("/{page}", "/assets/{name}")}
    for path in ("/", "/films/1", "/assets/app-1a2b.js"):
        await browse(client, path)
    assert count("/{page}") == before["/{page}"] + 2
    assert count("/assets/{name}") == before["/assets/{name}"] + 1
