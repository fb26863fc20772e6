"""Real connections to a small application: slow clients, broken ones, and more than there is time for."""

import asyncio
import contextlib
import json
import socket

import pytest

from marquee.api import server as api_server
from marquee.api.connection import MAX_HEAD_BYTES, Connection
from marquee.api.limits import Overload
from marquee.config import Settings

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 60
HEAD = b"HTTP/1.1\r\nhost: localhost\r\n"


class App:
    """Answers once `gate` is open; keeps what it received."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = 0
        self.received = []
        self.answer = b"ok"

    async def __call__(self, scope, receive, send):
        self.entered += 1
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        self.received.append(message["type"])
        if scope["path"] != "/livez":
            await self.gate.wait()
        length = b"%d" % len(self.answer)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for start in range(0, len(self.answer), 1 << 20):
            more = start + (1 << 20) < len(self.answer)
            part = self.answer[start : start + (1 << 20)]
            await send({"type": "http.response.body", "body": part, "more_body": more})


@pytest.fixture
async def served(tmp_path):
    """Start the server: `app, overload, connect = await served(**api)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**api):
            app, overload = App(), Overload(api.get("max_concurrent", 256))
            settings = Settings(home=tmp_path, api=api)
            protocol = type("Small", (Connection,), {"overload": overload})
            server = api_server._Server(api_server._config(app, settings, protocol))
            listener = socket.create_server(("127.0.0.1", 0))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            ready = asyncio.Event()
            pulse = asyncio.create_task(api_server._pulse(server, overload, settings, ready.set))
            stack.push_async_callback(_stop, server, serving, pulse, app)
            await ready.wait()

            async def connect():
                reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=1 << 20)
                stack.callback(writer.close)
                return reader, writer

            return app, overload, connect

        yield start


async def _stop(server, serving, pulse, app):
    app.gate.set()
    server.should_exit = True
    await asyncio.wait_for(serving, DEADLINE_SECONDS)
    pulse.cancel()
    await asyncio.gather(pulse, return_exceptions=True)


async def answer_of(reader):
    """Status, headers and body of the next answer."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body


async def assert_problem(reader, status, slug):
    found, headers, body = await answer_of(reader)
    problem = json.loads(body)
    assert (found, problem["status"], problem["type"]) == (status, status, f"/problems/{slug}")
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"]
    return headers


async def assert_closed(reader):
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.read() == b""


@pytest.mark.parametrize("begun", [b"GET / HT", b"GET / HTTP/1.1\r\nhost: loc"], ids=["line", "header"])
async def test_client_that_is_slow_to_ask_is_told_so_and_let_go(served, begun):
    app, _, connect = await served(slow_client_seconds=0.1)
    reader, writer = await connect()
    writer.write(begun)
    headers = await assert_problem(reader, 408, "request-timeout")
    assert headers["connection"] == "close"
    await assert_closed(reader)
    assert not app.entered


async def test_client_that_says_nothing_is_let_go_in_silence(served):
    _, _, connect = await served(slow_client_seconds=0.1)
    await assert_closed((await connect())[0])


async def test_client_that_is_slow_to_send_its_body_is_told_so_and_the_route_too(served):
    app, _, connect = await served(slow_client_seconds=0.1)
    reader, writer = await connect()
    writer.write(b"POST / " + HEAD + b"content-length: 10\r\n\r\n12345")
    await assert_problem(reader, 408, "request-timeout")
    await assert_closed(reader)
    assert app.received == ["http.disconnect"]


async def test_client_that_takes_no_answer_is_let_go(served):
    app, _, connect = await served(slow_client_seconds=0.1)
    app.answer = b"x" * (64 << 20)
    reader, writer = await connect()
    writer.transport.pause_reading()
    writer.write(b"GET / " + HEAD + b"\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not app.received:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        writer.transport.resume_reading()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(64 << 20)


async def test_client_that_waits_for_a_slow_route_is_not_slow(served):
    app, _, connect = await served(slow_client_seconds=0.1)
    app.gate.clear()
    reader, writer = await connect()
    writer.write(b"POST / " + HEAD + b"content-length: 2\r\n\r\n{}")
    await asyncio.sleep(0.4)
    app.gate.set()
    assert (await answer_of(reader))[0] == 200


async def test_address_that_the_parser_does_not_take_is_too_long_not_malformed(served):
    app, _, connect = await served()
    reader, writer = await connect()
    writer.write(b"GET /?" + b"x" * 65_536 + b" HTTP/1.1\r\nhost: h\r\n\r\n")
    await assert_problem(reader, 431, "head-too-large")
    assert not app.entered


async def test_endless_head_is_refused(served):
    app, _, connect = await served()
    reader, writer = await connect()
    writer.write(b"GET / " + HEAD + b"x: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(MAX_HEAD_BYTES // 1000 + 200):
            writer.write(b"x" * 1000)
            await writer.drain()
    await assert_problem(reader, 431, "head-too-large")
    assert not app.entered


async def test_what_is_not_http_is_told_so(served):
    _, _, connect = await served()
    reader, writer = await connect()
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    await assert_problem(reader, 400, "bad-request")
    await assert_closed(reader)


async def entered(app, n):
    async with asyncio.timeout(DEADLINE_SECONDS):
        while app.entered < n:
            await asyncio.sleep(0.005)


async def test_more_than_the_most_is_refused_at_once_and_the_connection_goes_on(served):
    app, overload, connect = await served(max_concurrent=2)
    app.gate.clear()
    busy = [await connect() for _ in range(2)]
    for _, writer in busy:
        writer.write(b"GET / " + HEAD + b"\r\n")
    await entered(app, 2)
    reader, writer = await connect()
    for body in (b"", b"12345", b"x" * 200_000):
        writer.write(b"POST / " + HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        headers = await assert_problem(reader, 503, "overloaded")
        assert headers["retry-after"] == "1"
        assert "connection" not in headers
    assert overload.shed == 3
    writer.write(b"GET /livez " + HEAD + b"\r\n")
    assert (await answer_of(reader))[0] == 200
    app.gate.set()
    for its_reader, _ in busy:
        assert (await answer_of(its_reader))[0] == 200
    writer.write(b"POST / " + HEAD + b"content-length: 2\r\n\r\n{}")
    assert (await answer_of(reader))[0] == 200
    assert overload.shed == 3


async def test_client_that_asked_for_much_at_once_is_let_go_at_its_first_refusal(served):
    app, overload, connect = await served(max_concurrent=1)
    app.gate.clear()
    reader, writer = await connect()
    writer.write((b"GET / " + HEAD + b"\r\n") * 2000)
    await entered(app, 1)
    overload.under_way += 1  # another client comes meanwhile
    app.gate.set()
    assert (await answer_of(reader))[0] == 200
    assert (await assert_problem(reader, 503, "overloaded"))["connection"] == "close"
    assert (app.entered, overload.shed) == (1, 1)


async def test_client_that_wants_to_close_is_let_go_after_its_refusal(served):
    app, _, connect = await served(max_concurrent=1)
    app.gate.clear()
    _, busy = await connect()
    busy.write(b"GET / " + HEAD + b"\r\n")
    await entered(app, 1)
    reader, writer = await connect()
    writer.write(b"GET / " + HEAD + b"connection: close\r\n\r\n")
    headers = await assert_problem(reader, 503, "overloaded")
    assert headers["connection"] == "close"
    await assert_closed(reader)


async def test_requests_that_only_wait_leave_room(served):
    app, overload, connect = await served(max_concurrent=1)
    app.gate.clear()
    overload.waiting = 1
    _, busy = await connect()
    busy.write(b"POST /run/train " + HEAD + b"content-length: 0\r\n\r\n")
    await entered(app, 1)
    reader, writer = await connect()
    writer.write(b"GET / " + HEAD + b"\r\n")
    await entered(app, 2)
    app.gate.set()
    assert (await answer_of(reader))[0] == 200
    assert overload.shed == 0
