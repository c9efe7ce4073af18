"""What a sender may take, in bytes and in time, before its connection is ended: against the real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from uvicorn.server import ServerState

from ingest import protocol, server
from ingest.limits import ANSWER_S, BODY_WINDOW_BYTES, BODY_WINDOW_S, HEAD_BYTES
from ingest.protocol import HttpProtocol
from ingest.server import configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Receiver, Served


@pytest.fixture
def served(receiver: Receiver, run: Callable[..., Served]) -> Served:
    """The receiver behind a socket."""
    return run(receiver.app)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, receiver: Receiver, run: Callable[..., Served]) -> Served:
    """A receiver that looks at the clock ten times a second, and has no patience."""
    for name in ("HEAD_S", "BODY_WINDOW_S", "ANSWER_S"):
        monkeypatch.setattr(protocol, name, 0)
    monkeypatch.setattr(server, "TICKS_PER_S", 1)
    return run(receiver.app)


def said(connection: socket.socket) -> bytes:
    """All that the server says before it ends the connection."""
    data = b""
    try:
        while more := connection.recv(65_536):
            data += more
    except ConnectionResetError:
        pass
    return data


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    document = json.loads(body)
    assert isinstance(document, dict)
    assert answer.startswith(b"HTTP/1.1 %d " % document["status"])
    return document


def post(path: str, *lines: bytes) -> bytes:
    return b"\r\n".join([b"POST %b HTTP/1.1" % path.encode(), b"Host: x", *lines, b"", b""])


def still_serves(receiver: Receiver, served: Served) -> bool:
    connection = served.connect()
    connection.sendall(post(receiver.path, b"Content-Length: 2", b"Connection: close") + b"{}")
    return said(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * HEAD_BYTES,
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (HEAD_BYTES // 6),
        b"GET /" + b"a" * HEAD_BYTES,
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
        b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["value", "count", "path", "whole", "whole path"],
)
def test_a_head_without_end_is_refused(receiver: Receiver, served: Served, begun: bytes) -> None:
    """431 once it has more bytes than it may, whether it is whole by then or not; and the next sender is served."""
    connection = served.connect()
    connection.sendall(begun)
    assert problem(said(connection))["status"] == 431
    assert still_serves(receiver, served)


@pytest.mark.parametrize("first", [1_000, HEAD_BYTES // 2, HEAD_BYTES])
def test_a_large_head_is_refused_however_it_is_cut_up(receiver: Receiver, served: Served, first: int) -> None:
    """Also where the packet that makes it too large is the one that makes it whole."""
    begun = b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * HEAD_BYTES + b"\r\n\r\n"
    connection = served.connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(begun[:first])
    # Whoever is served now comes after what was sent before.
    assert still_serves(receiver, served)
    connection.sendall(begun[first:])
    assert problem(said(connection))["status"] == 431


@pytest.mark.parametrize("more", [b"A: b\r\n", b"A: " + b"b" * 1_000])
def test_trailers_without_end_are_refused(receiver: Receiver, served: Served, more: bytes) -> None:
    """What follows a chunked body is bounded as its head is; nothing is recorded of it."""
    connection = served.connect()
    connection.sendall(post(receiver.path, b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n")
    try:
        for _ in range(3 * HEAD_BYTES // len(more)):
            connection.sendall(more)
    except ConnectionError:
        pass
    said(connection)
    assert receiver.events() == []
    assert still_serves(receiver, served)


def test_many_requests_in_one_packet_are_no_large_head(receiver: Receiver, served: Served) -> None:
    """A sender that does not wait for its answers, and one with many small chunks, are served whole."""
    connection = served.connect()
    request = post(receiver.path, b"Content-Length: 2") + b"{}"
    count = 3 * HEAD_BYTES // len(request)
    chunks = b"1\r\n{\r\n" + b"1\r\n \r\n" * HEAD_BYTES + b"1\r\n}\r\n0\r\n\r\n"
    connection.sendall(request * count)
    connection.sendall(post(receiver.path, b"Transfer-Encoding: chunked", b"Connection: close") + chunks)
    assert said(connection).count(b"HTTP/1.1 200 ") == count + 1


@pytest.mark.parametrize(
    "begun", [b"POST /webhooks/main HTTP/1.1\r\nHost", b"\r\n", b"G"], ids=["header", "line end", "method"]
)
def test_a_slow_head_is_given_up(receiver: Receiver, hurried: Served, begun: bytes) -> None:
    """408, which says to send again; others are served meanwhile."""
    connection = hurried.connect()
    connection.sendall(begun)
    assert problem(said(connection))["status"] == 408
    assert receiver.events() == []


def test_a_connection_that_says_nothing_is_given_up(hurried: Served) -> None:
    """There is nothing to answer."""
    assert said(hurried.connect()) == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_slow_body_is_given_up(receiver: Receiver, hurried: Served, framing: bytes) -> None:
    """408, and nothing is recorded."""
    connection = hurried.connect()
    connection.sendall(post(receiver.path, framing) + b"2\r\n{}")
    assert problem(said(connection))["status"] == 408
    assert receiver.events() == []


@pytest.mark.parametrize(
    ("windows", "status"),
    [
        ([BODY_WINDOW_BYTES] * 5, b"200"),
        ([BODY_WINDOW_BYTES - 1], b"408"),
        ([3 * BODY_WINDOW_BYTES, BODY_WINDOW_BYTES - 1], b"408"),
    ],
)
def test_a_body_that_comes_steadily_may_take_its_time(
    receiver: Receiver, run: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, windows: list[int], status: bytes
) -> None:
    """What brings enough in each window is waited for; what brings a byte too few in one of them is not."""
    now = 0.0
    looks: list[tuple[float, HttpProtocol]] = []
    look = HttpProtocol.look_at_clock

    def look_at_ours(connection: HttpProtocol, _now: float) -> None:
        moment = now
        look(connection, moment)
        looks.append((moment, connection))

    def until_looked(sent: int, moment: float) -> None:
        deadline = time.monotonic() + 20
        while not looks or looks[-1][0] != moment or looks[-1][1]._received_bytes != sent:
            assert time.monotonic() < deadline

    monkeypatch.setattr(HttpProtocol, "look_at_clock", look_at_ours)
    monkeypatch.setattr(server, "TICKS_PER_S", 1)
    connection = run(receiver.app).connect()
    head = post(receiver.path, b"Content-Length: %d" % (sum(windows) + 2), b"Connection: close") + b"["
    connection.sendall(head)
    sent = len(head)
    until_looked(sent, now)
    now += 1
    until_looked(sent, now)
    for size in windows:
        connection.sendall(b" " * size)
        sent += size
        until_looked(sent, now)
        now += BODY_WINDOW_S
        until_looked(sent, now)
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"]")
    assert said(connection).startswith(b"HTTP/1.1 %b " % status)


def test_a_delivery_that_waits_for_the_log_is_not_given_up(receiver: Receiver, hurried: Served) -> None:
    """It is the receiver that is slow then, and the sender that has patience."""
    receiver.tape.open.clear()
    connection = hurried.connect()
    connection.sendall(post(receiver.path, b"Content-Length: 2", b"Connection: close") + b"{}")
    assert said(hurried.connect()) == b""  # As long as the impatience takes that ends another one.
    receiver.tape.open.set()
    assert said(connection).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_is_kept_between_requests(receiver: Receiver, hurried: Served) -> None:
    """For as long as `KEEP_ALIVE_S` says, which is longer than a head may take."""
    request = post(receiver.path, b"Content-Length: 2") + b"{}"
    connection = hurried.connect()
    connection.sendall(request)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert said(hurried.connect()) == b""
    connection.sendall(request)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


class Stuck(asyncio.Transport):
    """A transport whose other end reads nothing."""

    aborted = False

    def is_closing(self) -> bool:
        """It is open."""
        return False

    def abort(self) -> None:
        """Remembered."""
        self.aborted = True


def test_a_reader_that_never_reads_is_cut_off(receiver: Receiver) -> None:
    """Its answers are not held for ever."""

    async def wait(seconds: list[float]) -> bool:
        state = ServerState()
        connection = HttpProtocol(configuration(receiver.app), state, {}, asyncio.get_running_loop())
        stuck = Stuck()
        connection.connection_made(stuck)
        connection.pause_writing()
        for now in seconds:
            connection.look_at_clock(now)
        return stuck.aborted

    assert not asyncio.run(wait([7, 7 + ANSWER_S - 1]))
    assert asyncio.run(wait([7, 7 + ANSWER_S]))
