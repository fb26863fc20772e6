"""The edge under those who ask too much, and while what is behind it is replaced or away."""

import itertools
import threading

import httpx
import pytest
from free_ports import free_port
from neighbours import BROWSER, EVERYWHERE, OPS, PAGE, client_of, connected, upstreams
from waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("megabytes", [1.5, 3], ids=["a-little", "much"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_body_that_is_too_large_is_refused(client, megabytes, chunked):
    body = b"[" + b" " * int(megabytes * 1_000_000)
    answer = client.post("/api/v1/recommendations", content=iter([body]) if chunked else body)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/body-too-large"


def test_head_that_is_too_large_is_refused(client):
    assert client.get("/api/livez", headers={"x-much": "x" * 100_000}).status_code == 431
    assert client.get("/api/livez", headers={"x-some": "x" * 30_000}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /api/v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["silent", "head", "body"],
)
def test_slow_client_is_not_waited_for(edge, sent):
    with connected(edge) as connection:
        connection.sendall(sent)
        answer = connection.makefile("rb").readline()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_rates_are_of_the_visitor_and_not_of_what_one_claims_to_be(run_caddy, run_api, web, tool):
    with (
        run_api(MARQUEE_API__RATE_PER_ADDRESS="5/hour") as api,
        run_caddy("Caddyfile", **upstreams(api, web, tool)) as edge,
    ):
        forged = ({"x-forwarded-for": f"192.0.2.{i}", "forwarded": f"for=192.0.2.{i}"} for i in range(8))
        with client_of(edge, "127.0.0.2") as client:
            statuses = [client.get("/api/livez", headers=headers).status_code for headers in forged]
        assert statuses == [200] * 5 + [429] * 3
        with client_of(edge, "127.0.0.3") as client:
            assert client.get("/api/livez").status_code == 200


def test_readers_wait_while_the_api_is_replaced_and_writers_are_told_if_they_were_not_heard(edge, api):
    asked = itertools.cycle([("GET", None), ("GET", None), ("POST", {"events": [], "k": 5})])
    answered, lost, stop = [], [], threading.Event()

    def visit():
        with client_of(edge) as client:
            while not stop.is_set():
                method, body = next(asked)
                path = "/api/v1/items" if body is None else "/api/v1/recommendations"
                try:
                    answer = client.request(method, path, json=body)
                except httpx.HTTPError as error:
                    lost.append((method, repr(error)))
                    return
                answered.append(answer.status_code)
                told = method == "POST" and answer.status_code == 502 and "retry-after" in answer.headers
                if answer.status_code != 200 and not told:
                    lost.append((method, answer.status_code, answer.text))

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        for _ in range(3):
            before = len(answered)
            until(lambda before=before: len(answered) > before + 50 or lost)
            api.stop()
            api.start()
            api.wait()
    finally:
        stop.set()
        for visitor in visitors:
            visitor.join()
    assert lost == []


def test_change_without_a_body_waits_for_an_api_that_is_not_there_yet(edge, api):
    answers = []

    def become_a_visitor():
        with client_of(edge) as client:
            answers.append(client.post("/api/v1/session"))

    api.stop()
    visitor = threading.Thread(target=become_a_visitor)
    visitor.start()
    api.start()
    visitor.join()
    api.wait()
    assert [answer.status_code for answer in answers] == [200]


def test_while_the_api_is_away_the_site_opens_and_is_told(lone_client):
    page = lone_client.get("/films/1", headers=BROWSER)
    assert (page.status_code, page.text) == (200, PAGE)
    assert lone_client.get("/config.json").json() == {"api": "/api"}
    for method in ("GET", "POST"):
        answer = lone_client.request(method, "/api/v1/recommendations", json={})
        assert answer.status_code == 502
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["type"] == "/problems/api-away"
        assert set(answer.headers) >= EVERYWHERE


def test_tool_that_is_away_is_said_to_be(run_caddy, web):
    with (
        run_caddy("Caddyfile", **upstreams(None, web, f"127.0.0.1:{free_port()}"), SWAP_SECONDS="0") as edge,
        client_of(edge) as client,
    ):
        answer = client.get("/grafana/", auth=OPS)
        assert (answer.status_code, answer.headers["retry-after"]) == (502, "5")
        assert "Back in a moment" in answer.text
