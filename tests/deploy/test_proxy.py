"""The edge: the real Caddy with the file of deploy/proxy, before the real API, the site's files and tools."""

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from neighbours import BROWSER, EVERYWHERE, KEY, OPS, SHOP, client_of, connected, upstreams
from waiting import until

from marquee.api.app import create_app
from marquee.config import Settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_plain_http_is_led_to_https(edge, client):
    answer = httpx.get(f"{edge.plain}/films/1?lang=ko", trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/films/1?lang=ko")
    assert "server" not in answer.headers
    assert httpx.post(f"{edge.plain}/api/v1/session", trust_env=False).status_code == 308


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/films/27205", 200),
        ("GET", "/assets/app-1a2b.js", 200),
        ("GET", "/assets/gone-0.js", 404),
        ("GET", "/config.json", 200),
        ("GET", "/api/health", 200),
        ("GET", "/api/docs", 200),
        ("GET", "/api/nowhere", 404),
        ("GET", "/api/metrics", 404),
        ("POST", "/api/run/train", 401),
        ("GET", "/mlflow/", 401),
        ("POST", "/", 405),
    ],
)
def test_every_answer_has_the_headers_once_and_names_no_program(client, method, path, status):
    answer = client.request(method, path, headers=BROWSER)
    assert answer.status_code == status
    names = [name.lower() for name, _ in answer.headers.multi_items() if name.lower() != "vary"]
    assert len(names) == len(set(names))
    assert set(names) >= EVERYWHERE
    assert not {"server", "via", "x-powered-by", "alt-svc"} & set(names)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_tool_decides_for_itself_who_frames_it(client):
    assert client.get("/grafana/", auth=OPS).headers.get_list("x-frame-options") == ["DENY"]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/films/27205", "/ops", "/icon.svg", "/assets/app-1a2b.js", "/assets/shop-3c4d.css"),
        *("/assets/app-1a2b.js.map", "/assets/gone-0.js", "/assets/", "/v1/nowhere", "/run/nothing"),
    ],
)
async def test_site_is_served_as_the_api_serves_it(web, site_folder, tmp_path, path):
    app = create_app(Settings(home=tmp_path, site={"folder": site_folder}, api={"trusted_proxies": ("::",)}))
    asked = {**BROWSER, "accept-encoding": "identity"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as other:
        expected = await other.get(path, headers=asked)
    found = httpx.get(f"{web.url}{path}", headers=asked, trust_env=False)
    assert found.status_code == (404 if expected.status_code == 401 else expected.status_code)
    if found.status_code == 200:
        assert found.content == expected.content
        assert media_type(found) == media_type(expected)
    of_page = {"content-security-policy", "cross-origin-opener-policy", "permissions-policy"}
    same = {"cache-control", "referrer-policy", "x-content-type-options", "x-frame-options"}
    same |= of_page if media_type(expected) == "text/html" else set()
    for name in same if found.status_code == 200 else ():
        # Here the posters' whole address stands in the policy, there their host.
        assert found.headers[name].replace("/t/p/;", ";") == expected.headers[name], name
    assert found.status_code == 200 or found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/.env", "/assets/../.env", "/..%2f..%2fetc/passwd", "/assets/..%2f.env"])
def test_site_gives_away_no_other_file(web, path):
    host, port = urlsplit(web.url).netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert b"what nobody is to read" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize(
    ("path", "accepted", "encoding"),
    [
        ("/assets/shop-3c4d.css", "gzip, br, zstd", "br"),
        ("/assets/app-1a2b.js", "gzip", "gzip"),
        ("/assets/app-1a2b.js", "zstd, gzip;q=0.5", "zstd"),
        ("/api/openapi.json", "gzip", "gzip"),
        ("/api/openapi.json", "zstd", "zstd"),
        ("/api/openapi.json", "identity", None),
        ("/api/livez", "gzip", None),
    ],
)
def test_answers_are_compressed_once(client, path, accepted, encoding):
    with client.stream("GET", path, headers={"accept-encoding": accepted}) as answer:
        assert answer.status_code == 200
        assert answer.headers.get("content-encoding") == encoding


class TestApi:
    """Below /api."""

    def test_documents_name_the_prefix(self, client, api):
        assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
        assert '"/api/docs-assets/' in client.get("/api/docs").text
        assert client.get("/api/docs-assets/swagger-ui.css").status_code == 200
        direct = httpx.get(f"http://127.0.0.1:{api.port}/openapi.json", trust_env=False)
        assert "servers" not in direct.json()

    def test_prefix_that_a_client_names_is_dropped(self, client):
        forged = {"x-forwarded-prefix": "/elsewhere"}
        assert client.get("/api/openapi.json", headers=forged).json()["servers"] == [{"url": "/api"}]
        assert client.get("/config.json", headers=forged).json()["api"] == "/api"

    def test_run_is_found_where_the_answer_says(self, client):
        headers = {"authorization": f"Bearer {KEY}"}
        answer = client.post(
            "/api/run/train", params={"wait": False}, json={"model_name": "mlp"}, headers=headers
        )
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["location"]
        assert client.get(answer.headers["location"]).json()["pipeline"] == "train"

    @pytest.mark.parametrize(
        "path",
        [
            *("/api/metrics", "/api/readyz", "/api/METRICS", "/api/%6detrics", "/api/./metrics"),
            *("/api//metrics", "/api/x/../metrics", "/api/metrics/", "/%61pi/metrics", "//api/metrics"),
        ],
    )
    def test_what_is_for_the_inside_is_not_found(self, edge, path):
        with connected(edge) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = connection.makefile("rb").read()
        assert b"marquee_" not in answer
        assert b"inference_ms" not in answer

    def test_cookie_is_for_tls_and_for_scripts_of_nobody(self, client):
        answer = client.post("/api/v1/session", headers={"origin": str(client.base_url).rstrip("/")})
        assert answer.status_code == 200
        [cookie] = answer.headers.get_list("set-cookie")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert client.get("/api/v1/session").json()["role"] == "visitor"

    def test_other_sites_read_what_the_api_lets_them(self, client):
        asked = {"origin": SHOP, "access-control-request-method": "POST"}
        allowed = client.options("/api/v1/recommendations", headers=asked)
        assert allowed.headers.get_list("access-control-allow-origin") == [SHOP]
        stranger = client.get("/api/v1/items", headers={"origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in stranger.headers


class TestTools:
    """Behind a log-in that needs no API."""

    @pytest.mark.parametrize(
        "path",
        [
            "/mlflow/ajax-api/2.0/x",
            "/airflow/dags/a%2Fb?c=d",
            "/grafana/d/1",
        ],
    )
    def test_who_logs_in_is_led_to_the_tool_and_nobody_else(self, lone_client, path):
        for auth in (None, ("ops", "wrong"), ("nobody", "s3cret")):
            refused = lone_client.get(path, auth=auth)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
        asked = lone_client.get(path, auth=OPS).json()
        assert asked["path"] == path
        assert "authorization" not in asked["headers"]
        assert asked["headers"]["host"] == urlsplit(str(lone_client.base_url)).netloc
        assert asked["headers"]["x-forwarded-proto"] == "https"

    def test_path_without_a_slash_is_led_to_the_one_with_it(self, lone_client):
        for path in ("/mlflow", "/airflow", "/grafana"):
            answer = lone_client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (308, f"{path}/")

    def test_page_of_another_site_changes_nothing(self, lone_client):
        foreign = {"sec-fetch-site": "cross-site"}
        assert lone_client.post("/grafana/api/x", auth=OPS, headers=foreign).status_code == 403
        assert lone_client.get("/grafana/", auth=OPS, headers=foreign).status_code == 200
        own = {"sec-fetch-site": "same-origin"}
        assert lone_client.post("/grafana/api/x", auth=OPS, headers=own).status_code == 200


def test_log_is_json_and_tells_no_secret_and_nobodys_id(run_caddy, api, web, tool):
    with run_caddy("Caddyfile", **upstreams(api, web, tool)) as edge, client_of(edge) as client:
        client.headers["referer"] = f"{edge.url}/someone"
        visitor = client.post("/api/v1/session").json()["user_id"]
        cookie = client.cookies["marquee_session"]
        client.get(f"/api/v1/users/{visitor}/recommendations")
        client.get("/api/v1/users/31415926/history", headers={"authorization": f"Bearer {KEY}"})
        client.get("/api/v1/items", params={"q": "27205", "user_id": 27182818})
        client.get("/mlflow/", auth=OPS)
        until(lambda: '"uri":"/mlflow/"' in edge.log.read_text())
        text = edge.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line["request"] for line in lines if line.get("logger", "").startswith("http.log.access")]
    uris = [request["uri"] for request in requests]
    assert "/api/v1/users/-/recommendations" in uris
    assert "/api/v1/items?q=27205&user_id=-" in uris
    assert all(request["remote_ip"] == "127.0.0.1" for request in requests)
    for secret in (KEY, cookie, str(visitor), "31415926", "27182818", "someone", "b3BzOnMzY3JldA"):
        assert secret not in text


def media_type(answer):
    return answer.headers["content-type"].partition(";")[0]
