"""Bytes that mean one thing to a proxy and another to the server, and heads and bodies without end."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from marquee.api import server as api_server
from marquee.api.connection import Connection
from marquee.api.limits import Overload

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

SECONDS = 30
HOST = b"host: films.example\r\n"


@pytest_asyncio.fixture(loop_scope="session")
async def send(world) -> AsyncIterator[Callable]:
    """Send bytes to the real server around the real application; give all that it answers until it closes."""
    protocol = type("Tested", (Connection,), {"overload": Overload(256)})
    config = api_server._config(api_server._entry(world.app), world.settings, protocol)
    server = api_server._Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))

    async def talk(*parts: bytes, patience: float = SECONDS) -> bytes:
        """Once the server has spoken, wait so long for more; then it is told that nothing is to come."""
        answer = bytearray()
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            with contextlib.suppress(ConnectionError), contextlib.suppress(TimeoutError):
                while part := await asyncio.wait_for(reader.read(65536), patience if answer else SECONDS):
                    answer += part
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return bytes(answer)

    yield talk
    server.should_exit = True
    await serving
    listener.close()


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


SMUGGLED = b"GET /v1/overview HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"
"""The last that is answered; 401 says that it was taken for a request of its own."""
AMBIGUOUS = {
    "both": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 2\r\ncontent-length: 40\r\n\r\n{}",
    "list of lengths": b"content-length: 2, 40\r\n\r\n{}",
    "negative length": b"content-length: -1\r\n\r\n{}",
    "length with a sign": b"content-length: +2\r\n\r\n{}",
    "length that is none": b"content-length: 2x\r\n\r\n{}",
    "hexadecimal length": b"content-length: 0x2\r\n\r\n{}",
    "endless length": b"content-length: " + b"9" * 40 + b"\r\n\r\n{}",
    "unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": b"x: y\r\n transfer-encoding: chunked\r\n\r\n",
    "chunk size that is none": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "endless chunk size": b"transfer-encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "bare line feed in a header": b"x: y\nz: w\rcontent-length: 2\r\n\r\n{}",
    "nul in a header": b"x: a\x00b\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_length_that_can_be_read_in_two_ways_ends_the_connection(send, name):
    """A proxy may have taken what follows for its body: it is not answered as another request."""
    answer = await send(b"POST /v1/session HTTP/1.1\r\n" + HOST + AMBIGUOUS[name] + SMUGGLED, patience=0.3)
    found = statuses(answer)
    assert found in ([400], [413], []), answer[:300]


async def test_requests_one_behind_the_other_are_answered_each_by_its_own_rights(world, send):
    key = world.keys["operator"].encode()
    first = b"GET /v1/overview HTTP/1.1\r\n" + HOST + b"authorization: Bearer " + key + b"\r\n\r\n"
    assert statuses(await send(first + SMUGGLED)) == [200, 401]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n" % (b"a" * 70_000),
        b"GET / HTTP/1.1\r\nhost: x\r\nx: %s\r\n\r\n" % (b"a" * 1_000_000),
        b"GET / HTTP/1.1\r\nhost: x\r\n%s\r\n" % b"".join(b"x%d: y\r\n" % i for i in range(90_000)),
        b"GET / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n\r\n" % (b"a=b; " * 200_000),
    ],
    ids=["url", "header", "many headers", "cookies"],
)
async def test_head_without_end_is_refused(send, head):
    parts = [head[start : start + 8192] for start in range(0, len(head), 8192)]
    answer = await send(*parts)
    assert statuses(answer)[:1] in ([431], [])


async def test_body_without_end_is_refused_however_it_comes(send):
    head = b"POST /v1/session HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
    told = await send(head + b"content-length: 3000000\r\n\r\n" + b" " * 1000, patience=0.3)
    assert statuses(told) == [413]
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    untold = await send(
        head + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 20, b"0\r\n\r\n", patience=0.3
    )
    assert statuses(untold)[:1] in ([413], [])


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://evil.example/v1/overview HTTP/1.1",
        b"GET //evil.example/v1/overview HTTP/1.1",
        b"GET /v1/overview#x HTTP/1.1",
        b"GET /v1/overview?x HTTP/1.1",
        b"GET /v1\\overview HTTP/1.1",
        b"GET /v1/./overview HTTP/1.1",
        b"GET /%76%31/overview HTTP/1.1",
        b"GET /v1/overview HTTP/1.0",
        b"GET /v1/overview HTTP/9.9",
        b"GET /v1/overview",
        b"CONNECT films.example:443 HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0",
    ],
)
async def test_request_line_of_another_kind_opens_nothing(send, line):
    found = statuses(await send(line + b"\r\n" + HOST + b"connection: close\r\n\r\n", patience=0.3))
    assert not [status for status in found if status < 400], found


async def test_upgrade_to_another_protocol_is_not_made(send):
    for name in (b"websocket", b"h2c"):
        head = b"GET /v1/overview HTTP/1.1\r\n" + HOST
        extra = (
            b"connection: upgrade\r\nupgrade: "
            + name
            + b"\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n"
        )
        assert 101 not in statuses(await send(head + extra + b"\r\n", patience=0.3))


async def test_repeated_headers_do_not_add_up_to_more_rights(world, send):
    """Of two keys the last counts, for the check and for the route alike."""
    head = b"GET /v1/overview HTTP/1.1\r\n" + HOST + b"connection: close\r\n"
    valid = b"authorization: Bearer " + world.keys["operator"].encode() + b"\r\n"
    wrong = b"authorization: Bearer wrong\r\n"
    assert statuses(await send(head + valid + wrong + b"\r\n")) == [401]
    two_hosts = b"GET /v1/overview HTTP/1.1\r\nhost: localhost\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert statuses(await send(two_hosts))[0] in (400, 401)


async def test_refusal_before_there_is_a_request_is_a_problem_too(send):
    answer = await send(b"nonsense\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [400]
    assert json.loads(body)["fix"]
    for name in (
        b"x-content-type-options: nosniff",
        b"x-frame-options: DENY",
        b"referrer-policy: same-origin",
    ):
        assert name in head
