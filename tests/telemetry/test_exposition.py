import errno
import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from marquee.telemetry.exposition import served
from marquee.telemetry.metrics import Part


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


IPV6 = pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"))


@pytest.mark.parametrize("host", ["127.0.0.1", IPV6, "localhost"])
def test_metrics_and_a_sign_of_life_are_served_and_nothing_else(host):
    shown = f"[{host}]" if ":" in host else host
    with served(host, 0) as port, httpx.Client(base_url=f"http://{shown}:{port}", trust_env=False) as client:
        assert client.get("/livez").json() == {"status": "alive"}
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "marquee_runs_waiting" in answer.text
        assert "process_resident_memory_bytes" in answer.text
        assert "marquee_http_requests" not in answer.text
        assert client.get("/").status_code == 404
        assert client.post("/metrics").status_code == 405


def test_port_is_free_again_afterwards_and_taken_meanwhile():
    with served("127.0.0.1", 0) as port, pytest.raises(OSError) as caught, served("127.0.0.1", port):
        pass
    assert caught.value.errno == errno.EADDRINUSE
    with served("127.0.0.1", port) as again:
        assert again == port


def test_client_that_goes_away_leaves_no_trace(capfd):
    with served("127.0.0.1", 0) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_part_is_what_one_kind_of_process_sets():
    registry = CollectorRegistry()
    Gauge("marquee_runs_waiting", "…", registry=registry)
    Counter("marquee_http_requests_total", "…", registry=registry)
    Gauge("other", "…", registry=registry)
    names = {
        kind: [metric.name for metric in Part(registry, worker=kind).collect()] for kind in (True, False)
    }
    assert names == {True: ["marquee_runs_waiting", "other"], False: ["marquee_http_requests", "other"]}
