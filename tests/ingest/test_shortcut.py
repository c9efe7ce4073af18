"""Deliveries that come whole, and the same in pieces: nobody can tell which way they were taken."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING

import pytest

from ingest.app import Webhooks
from ingest.limits import LARGE_BODY_BYTES, Limits
from schema.errors import LogUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.ingest.conftest import Receiver, Served

DEADLINE_S = 20


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each delivery that came whole: whether the shortcut took it."""
    told: list[bool] = []
    take = Webhooks.take

    def noted(self: Webhooks, *arguments: object) -> bool:
        told.append(take(self, *arguments))  # type: ignore[arg-type]
        return told[-1]

    monkeypatch.setattr(Webhooks, "take", noted)
    return told


def request(receiver: Receiver, body: bytes, *lines: str, path: str = "") -> bytes:
    head = [
        f"POST {path or receiver.path} HTTP/1.1",
        "Host: x",
        "User-Agent: t",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def answer(connection: socket.socket) -> bytes:
    """One answer, whole, without what differs by its moment."""
    data = b""
    while (match := re.search(rb"content-length: ([0-9]+)\r\n(?:.+\r\n)*\r\n", data)) is None or len(
        data
    ) < match.end() + int(match[1]):
        more = connection.recv(65_536)
        assert more, data
        data += more
    return re.sub(rb"\ndate: [^\r]*|\"received_at\": ?\"[^\"]*\"|\"position\": ?[0-9]+", b"", data)


@pytest.mark.parametrize("body", [b"{}", b"", b"{", b"\xff", b'{"a": 1}' + b" " * 5_000])
@pytest.mark.parametrize("lines", [(), ("Connection: close",), ("Content-Type: text/\xe9",)])
def test_the_answer_and_the_event_are_the_same_both_ways(
    receiver: Receiver, run: Callable[..., Served], taken: list[bool], body: bytes, lines: tuple[str, ...]
):
    """Byte for byte, but for the moment and the position; so is what is kept."""
    served = run(receiver.app)
    whole, pieces = served.connect(), served.connect()
    whole.sendall(request(receiver, body, *lines))
    by_shortcut = answer(whole)
    pieces.sendall(request(receiver, b"", *lines, "Expect: 100-continue").replace(b"h: 0", b"h: %d" % len(body)))
    assert pieces.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    pieces.sendall(body)
    assert by_shortcut == answer(pieces)
    assert taken == [True]
    first, second = receiver.events()
    assert first.delivery.body == second.delivery.body == body
    assert first.delivery.headers == second.delivery.headers
    assert (first.delivery.source, first.delivery.remote) == (second.delivery.source, second.delivery.remote)
    if "Connection: close" in lines:
        assert whole.recv(1) == b""


@pytest.mark.parametrize(
    "path",
    ["/webhooks/main/wrong", "/webhooks/main", "/webhooks/none/x", "/webhooks/main//", "/livez", "/webhooks/a/b/c"],
)
def test_what_is_not_a_matter_of_course_goes_the_ordinary_way(
    receiver: Receiver, run: Callable[..., Served], taken: list[bool], path: str
):
    """And is refused there."""
    connection = run(receiver.app).connect()
    connection.sendall(request(receiver, b"{}", path=path))
    assert answer(connection)[9:12] in {b"404", b"405"}
    assert taken == [False]
    assert receiver.events() == []


def test_a_body_beyond_the_limit_is_refused_though_it_came_whole(
    start: Callable[..., Receiver], run: Callable[..., Served], taken: list[bool]
):
    """The limit is the ordinary way's."""
    receiver = start(Limits(body_bytes=10))
    connection = run(receiver.app).connect()
    connection.sendall(request(receiver, b"x" * 11))
    assert answer(connection)[9:12] == b"413"
    assert taken == [False]


def test_a_large_body_is_left_to_the_thread_for_large_ones(receiver: Receiver):
    """Though it may come in one read."""
    scope = {"path": receiver.path, "method": "POST"}
    assert receiver.app.take(scope, b" " * (LARGE_BODY_BYTES + 1), print) is False  # type: ignore[attr-defined]


def test_there_is_no_room_for_more_than_are_held(
    start: Callable[..., Receiver], run: Callable[..., Served], taken: list[bool]
):
    """One that waits for its commit takes its place, and gives it back with its answer."""
    receiver = start(Limits(held_deliveries=1))
    served = run(receiver.app)
    receiver.tape.open.clear()
    first, second = served.connect(), served.connect()
    first.sendall(request(receiver, b"1"))
    wait_for(lambda: receiver.tape.sizes)
    second.sendall(request(receiver, b"2"))
    assert answer(second)[9:12] == b"503"
    receiver.tape.open.set()
    assert answer(first)[9:12] == b"200"
    second = served.connect()
    second.sendall(request(receiver, b"3"))
    assert answer(second)[9:12] == b"200"
    assert taken == [True, False, True]
    assert [event.delivery.body for event in receiver.events()] == [b"1", b"3"]


def test_a_commit_that_fails_is_answered_503_on_a_connection_that_stays(
    receiver: Receiver, run: Callable[..., Served], taken: list[bool]
):
    """And the next delivery is recorded on it, once the log takes it."""
    connection = run(receiver.app).connect()
    receiver.tape.fault = LogUnavailable("full", passing=True)
    connection.sendall(request(receiver, b"1"))
    assert answer(connection)[9:12] == b"503"
    receiver.tape.fault = None
    connection.sendall(request(receiver, b"2"))
    assert answer(connection)[9:12] == b"200"
    assert taken == [True, True]


def test_a_sender_that_has_gone_costs_nobody_else(receiver: Receiver, run: Callable[..., Served]):
    """Its event is in the log, and the others of its group get their answers."""
    served = run(receiver.app)
    receiver.tape.open.clear()
    held, gone, stays = served.connect(), served.connect(), served.connect()
    held.sendall(request(receiver, b"0"))
    wait_for(lambda: receiver.tape.sizes)
    gone.sendall(request(receiver, b"1"))
    stays.sendall(request(receiver, b"2"))
    wait_for(lambda: sum(map(len, receiver.writer._handed)) == 3)
    gone.close()
    receiver.tape.open.set()
    assert answer(stays)[9:12] == b"200"
    assert len(receiver.events()) == 3


def test_a_receiver_that_stops_answers_what_it_took(receiver: Receiver, run: Callable[..., Served]):
    """As it does what went the ordinary way."""
    served = run(receiver.app)
    receiver.tape.open.clear()
    connection = served.connect()
    connection.sendall(request(receiver, b"1"))
    wait_for(lambda: receiver.tape.sizes)
    served.stop()
    wait_for(lambda: refuses(served))
    receiver.tape.open.set()
    told = answer(connection)
    assert told[9:12] == b"200"
    assert b"connection: close" in told
    assert connection.recv(1) == b""


@pytest.mark.parametrize(("proxies", "remote"), [(None, "127.0.0.1"), ("127.0.0.1", "203.0.113.7")])
def test_a_proxy_speaks_for_the_sender_if_it_may(
    receiver: Receiver, run: Callable[..., Served], taken: list[bool], proxies: str | None, remote: str
):
    """The sender's address is the one that a trusted proxy tells."""
    connection = run(receiver.app, proxies).connect()
    connection.sendall(request(receiver, b"{}", "X-Forwarded-For: 203.0.113.7"))
    assert answer(connection)[9:12] == b"200"
    assert taken == [True]
    [event] = receiver.events()
    assert event.delivery.remote == remote


def refuses(served: Served) -> bool:
    try:
        served.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(condition: Callable[[], object]) -> None:
    paused = threading.Event()
    for _ in range(DEADLINE_S * 1_000):
        if condition():
            return
        paused.wait(0.001)
    raise TimeoutError


def test_deliveries_behind_each_other_are_answered_in_order(
    receiver: Receiver, run: Callable[..., Served], taken: list[bool]
):
    """The first by the shortcut, those behind it the ordinary way."""
    connection = run(receiver.app).connect()
    connection.sendall(b"".join(request(receiver, b"%d" % n) for n in range(3)))
    data = b""
    while data.count(b'"position"') < 3 or not data.endswith(b"}"):
        data += connection.recv(65_536)
    assert [json.loads(found)["position"] for found in re.findall(rb"\{.*?\}", data)] == [1, 2, 3]
    assert [event.delivery.body for event in receiver.events()] == [b"0", b"1", b"2"]
    assert taken == [True]
