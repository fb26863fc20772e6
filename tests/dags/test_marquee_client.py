"""The client of the DAGs against a real HTTP server that answers as it is told; no Airflow."""

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from marquee_client import (
    Api,
    BusyError,
    ClientError,
    Job,
    LaterError,
    RefusedError,
    RunFailedError,
    WrongResultError,
)

pytestmark = pytest.mark.usefixtures("no_proxy")

KEY = "mq_0123456789_secret-that-nobody-may-see"
RUN_ID = "0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11"
TRAIN = Job("/run/train", {"model_name": "ease"}, expected={"model": "ease"})
RUNNING = {"run_id": RUN_ID, "status": "running", "counts": {}}
SUCCEEDED = {"run_id": RUN_ID, "status": "succeeded", "counts": {"model": "ease", "rows": 9, "report": {}}}

Answer = tuple[int, Any, dict[str, str]]


def problem(status: int, **more: Any) -> Answer:
    body = {"type": f"/problems/kind-{status}", "title": "No", "status": status, "detail": "Why.", **more}
    return status, body, {"Content-Type": "application/problem+json"}


class Server:
    """Answers from a list; the last answer is repeated. None: no answer before the connection closes."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers, body))
                answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                if answer is None:
                    outer.released.wait(10)
                    return
                status, content, more = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def api(server: Server) -> Api:
    return Api(server.url, KEY, timeout_seconds=5)


def submit(api: Api) -> str:
    return api.submit(TRAIN, TRAIN.key("dag", "run"))


def test_submitting_sends_key_payload_and_idempotency_key_and_does_not_wait(server: Server, api: Api) -> None:
    server.answers = [(202, {"run_id": RUN_ID, "status": "queued", "location": "…"}, {})]
    assert submit(api) == RUN_ID
    [(method, path, headers, body)] = server.requests
    assert (method, path, body) == ("POST", "/run/train?wait=false", {"model_name": "ease"})
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["idempotency-key"] == TRAIN.key("dag", "run")


def test_who_joins_a_run_that_has_ended_finds_it_by_its_location(server: Server, api: Api) -> None:
    server.answers = [(200, {"result": "train finished"}, {"Location": f"/v1/runs/{RUN_ID}"})]
    assert submit(api) == RUN_ID


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(400), RefusedError),
        (problem(401), RefusedError),
        (problem(403), RefusedError),
        (problem(404), RefusedError),
        (problem(422), RefusedError),
        (problem(409, run_id=RUN_ID), BusyError),
        (problem(409), LaterError),
        (problem(429), LaterError),
        (problem(500), LaterError),
        (problem(503), LaterError),
        ((307, {}, {"Location": "http://127.0.0.1:1/"}), RefusedError),
        ((200, b"<html>hello</html>", {}), LaterError),
        ((202, b"[1]", {}), LaterError),
        ((202, {}, {}), LaterError),
        ((502, b"Bad gateway", {}), LaterError),
    ],
)
def test_answer_that_is_no_run_raises_what_says_whether_to_try_again(
    server: Server, api: Api, answer: Answer, error: type[ClientError]
) -> None:
    server.answers = [answer]
    with pytest.raises(error) as raised:
        submit(api)
    assert type(raised.value) is error
    assert str(raised.value).startswith("POST /run/train was answered ")
    if answer[2].get("Content-Type") == "application/problem+json":
        assert json.dumps(answer[1]) in str(raised.value)
    if isinstance(raised.value, BusyError):
        assert raised.value.run_id == RUN_ID


def test_closed_port_hung_answer_and_broken_connection_may_be_tried_again(server: Server) -> None:
    with pytest.raises(LaterError, match="POST /run/train got no answer: ConnectError"):
        submit(Api("http://127.0.0.1:1", KEY))
    server.answers = [None]
    with pytest.raises(LaterError, match="ReadTimeout"):
        submit(Api(server.url, KEY, timeout_seconds=0.05))
    server.released.set()
    with pytest.raises(LaterError, match="RemoteProtocolError"):
        submit(Api(server.url, KEY))


def test_run_is_judged_by_what_it_counted() -> None:
    assert TRAIN.judge(SUCCEEDED) == {"model": "ease", "rows": 9}
    for expected in ({"model": ("ease", "mlp")}, {"rows": int, "model": str}, {}):
        assert Job("/run/train", expected=expected).judge(SUCCEEDED)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"model": "mlp"}, "model is ease, expected mlp"),
        ({"model": ("mlp", "als")}, "model is ease, expected mlp or als"),
        ({"version": str}, "version is null, expected some str"),
        ({"rows": str}, "rows is 9, expected some str"),
        ({"report": dict}, "report is {}, expected some dict"),
    ],
)
def test_other_result_than_expected_is_refused_and_named(expected: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongResultError) as raised:
        Job("/run/train", expected=expected).judge(SUCCEEDED)
    assert said in str(raised.value)
    assert RUN_ID in str(raised.value)


def test_failed_run_may_be_tried_again_and_a_cancelled_one_was_not_wanted() -> None:
    with pytest.raises(RunFailedError, match="failed: no interactions"):
        TRAIN.judge({**RUNNING, "status": "failed", "error": "no interactions"})
    with pytest.raises(RefusedError, match="Cancelled by cli:kim"):
        TRAIN.judge({**RUNNING, "status": "cancelled", "error": "Cancelled by cli:kim."})


async def test_waiting_outlasts_an_api_that_is_away(server: Server, api: Api) -> None:
    away = [problem(503), problem(500), (200, b"not JSON", {}), (200, {"surprise": 1}, {})]
    server.answers = [*away, (200, RUNNING, {}), (200, SUCCEEDED, {})]
    assert await api.wait(RUN_ID, pause_seconds=0.001) == SUCCEEDED
    assert len(server.requests) == 6
    assert {path for _, path, _, _ in server.requests} == {f"/v1/runs/{RUN_ID}"}


async def test_waiting_ends_where_looking_is_not_allowed(server: Server, api: Api) -> None:
    server.answers = [(200, RUNNING, {}), problem(401)]
    with pytest.raises(RefusedError, match="kind-401"):
        await api.wait(RUN_ID, pause_seconds=0.001)


def test_run_that_ends_soon_is_given_back_and_others_are_not(server: Server, api: Api) -> None:
    server.answers = [(200, RUNNING, {}), (200, SUCCEEDED, {})]
    assert api.ended_soon(RUN_ID, seconds=60) == SUCCEEDED
    assert api.ended_soon(RUN_ID, seconds=0) is None
    server.answers = [problem(503)]
    assert api.ended_soon(RUN_ID, seconds=60) is None


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        ((200, {"status": "ok", "database": "ok"}, {}), True),
        ((200, {"status": "degraded", "database": "ok", "lacks": ["predictor"]}, {}), True),
        ((200, {"status": "degraded", "database": "unreachable"}, {}), False),
        (problem(503), False),
        ((200, b"hello", {}), False),
        ((200, [1], {}), False),
    ],
)
def test_api_is_well_when_it_reaches_its_database(
    server: Server, api: Api, answer: Answer, well: bool
) -> None:
    server.answers = [answer]
    assert api.is_well() is well
    assert "authorization" not in server.requests[0][2], "a revoked key would be refused there, too"
    assert Api("http://127.0.0.1:1", KEY).is_well() is False


def test_idempotency_key_depends_on_instance_endpoint_and_payload_alone() -> None:
    assert TRAIN.key("a", "b") == Job("/run/train", {"model_name": "ease"}, {"other": 1}).key("a", "b")
    others = [
        TRAIN.key("ab"),
        TRAIN.key("a", "c"),
        Job("/run/train", {"model_name": "mlp"}).key("a", "b"),
        Job("/run/backup", {"model_name": "ease"}).key("a", "b"),
        TRAIN.key("매일", "x" * 300),
    ]
    assert len({TRAIN.key("a", "b"), *others}) == 6
    assert all(key.isascii() and key.isprintable() and len(key) <= 200 for key in others)


def _refused(server: Server) -> None:
    server.answers = [problem(401)]
    submit(Api(server.url, KEY))


def _hung(server: Server) -> None:
    server.answers = [None]
    submit(Api(server.url, KEY, timeout_seconds=0.05))


def _unreachable(server: Server) -> None:
    submit(Api("http://127.0.0.1:1", KEY))


def _no_address(server: Server) -> None:
    submit(Api("http://[", KEY))


def _no_key(server: Server) -> None:
    submit(Api(server.url, f"{KEY}\n{KEY}"))


@pytest.mark.parametrize("fail", [_refused, _hung, _unreachable, _no_address, _no_key])
def test_key_is_in_no_message_log_or_traceback(
    server: Server, caplog: pytest.LogCaptureFixture, fail: Callable[[Server], None]
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ClientError) as raised:
        fail(server)
    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + caplog.text
    assert KEY not in told
    assert KEY not in repr(Api(server.url, KEY))
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
