"""Requests that no client should send, against the real server: refused or recorded once, never smuggled past."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Receiver, Served

SMUGGLED = b'{"smuggled": true}'

INNER = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n" + SMUGGLED


@pytest.fixture
def served(receiver: Receiver, run: Callable[..., Served]) -> Served:
    """The receiver behind a socket."""
    return run(receiver.app)


def exchange(served: Served, data: bytes, awaited: int = 0) -> bytes:
    """All that is answered to these bytes, after which the client says no more.

    It awaits so many answers before it says so: uvicorn gives up whatever a client that has ended still waits for.
    """
    connection = served.connect()
    said = b""
    try:
        connection.sendall(data)
        while said.count(b"HTTP/1.1 ") < awaited and (more := connection.recv(65_536)):
            said += more
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65_536):
            said += more
    except ConnectionError:
        pass
    return said


def statuses(said: bytes) -> list[int]:
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


def bodies(receiver: Receiver) -> list[bytes]:
    return [event.delivery.body for event in receiver.events()]


def post(path: str, *lines: bytes, line: bytes = b"POST %b HTTP/1.1") -> bytes:
    return b"\r\n".join([line % path.encode(), b"Host: x", *lines, b"", b""])


# Two ways to tell a body's length: a proxy in front may take the other one.


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 2", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 2"],
        [b"Content-Length: 2", b"Content-Length: 60"],
        [b"Content-Length: 2, 60"],
        [b"Content-Length: +2"],
        [b"Content-Length: -2"],
        [b"Content-Length: 0x2"],
        [b"Content-Length: 2 2"],
        [b"Content-Length: 99999999999999999999999"],
        [b"Content-Length:"],
        [b"Content-Length : 2"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:\x0bchunked"],
        [b"Transfer-Encoding: chunked\x00"],
    ],
    ids=lambda lines: b" | ".join(lines).decode("latin-1"),
)
def test_a_length_that_can_be_read_in_two_ways_smuggles_nothing(
    receiver: Receiver, served: Served, lines: list[bytes]
) -> None:
    """What hides behind an ambiguous length is refused, or is body; it is never a request of its own."""
    hidden = INNER % receiver.path.encode()

    said = exchange(served, post(receiver.path, *lines) + b"0\r\n\r\n" + hidden)

    assert SMUGGLED not in bodies(receiver)
    assert statuses(said) == [400]
    assert bodies(receiver) == []


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\nxx\r\n0\r\n\r\n",
        b"-2\r\nxx\r\n0\r\n\r\n",
        b"0x2\r\nxx\r\n0\r\n\r\n",
        b"2 \x00\r\nxx\r\n0\r\n\r\n",
        b"2\nxx\n0\n\n",
        b"2\r\nxxxx\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nxx\r\n0\r\n\r\n",
        b"\r\nxx\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nContent-Length: 60\r\n\r\n",
        b'2;a="\r\n{}\r\n0\r\n\r\n',
    ],
    ids=repr,
)
def test_a_malformed_chunk_is_no_delivery(receiver: Receiver, served: Served, body: bytes) -> None:
    """A body whose chunks can't be told apart is refused whole, with all that follows it."""
    said = exchange(served, post(receiver.path, b"Transfer-Encoding: chunked") + body + INNER % receiver.path.encode())

    assert bodies(receiver) == []
    assert set(statuses(said)) <= {400}


@pytest.mark.parametrize(
    "body",
    [
        b"2;a=b\r\n{}\r\n0\r\n\r\n",
        b"02\r\n{}\r\n000\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Late: 1\r\n\r\n",
    ],
    ids=repr,
)
def test_what_chunks_may_carry_changes_nothing(receiver: Receiver, served: Served, body: bytes) -> None:
    """Extensions and trailers are read past: the body is what was chunked, and the next request is the next."""
    said = exchange(
        served,
        post(receiver.path, b"Transfer-Encoding: chunked") + body + post(receiver.path, b"Content-Length: 2") + b"[]",
        awaited=2,
    )

    assert bodies(receiver) == [b"{}", b"[]"]
    assert statuses(said) == [200, 200]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 100,
        b"\r\n" * 1_000,
        b"POST\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / FTP/1.1\r\nHost: x\r\n\r\n",
        b"GARBAGE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00B: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: 1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_garbage_is_refused_and_harms_nobody(receiver: Receiver, served: Served, data: bytes) -> None:
    """No answer is a 2xx or a 5xx, nothing is recorded, and the next sender is served."""
    refused = exchange(served, data)
    said = exchange(served, post(receiver.path, b"Content-Length: 2") + b"{}", awaited=1)

    assert all(400 <= status < 500 for status in statuses(refused))
    assert statuses(said) == [200]
    assert bodies(receiver) == [b"{}"]


@pytest.mark.parametrize("ending", [b"\n", b"\r"])
def test_lines_that_end_otherwise_smuggle_nothing(receiver: Receiver, served: Served, ending: bytes) -> None:
    """A head whose lines end in a bare LF or CR is refused, or read as one request; it hides no second one."""
    head = post(
        receiver.path, b"X: 1" + ending + b"Content-Length: 0" + ending + ending + INNER % receiver.path.encode()
    )

    exchange(served, head)

    assert bodies(receiver).count(SMUGGLED) <= 1
    assert all(body in {b"", SMUGGLED} for body in bodies(receiver))


def test_a_request_within_a_body_is_body(receiver: Receiver, served: Served) -> None:
    """Bytes that look like a request are not one while they are within the length told."""
    inner = INNER % receiver.path.encode()

    said = exchange(served, post(receiver.path, b"Content-Length: %d" % len(inner)) + inner, awaited=1)

    assert bodies(receiver) == [inner]
    assert statuses(said) == [400]
    assert json.loads(said.partition(b"\r\n\r\n")[2])["position"] == 1


@pytest.mark.parametrize(
    "path",
    ["//webhooks/main/", "/webhooks//main/", "/webhooks/main/../main/", "/webhooks/./main/", "/webhooks/main;x/"],
)
def test_a_path_is_what_it_is(receiver: Receiver, served: Served, path: str) -> None:
    """No path is tidied up: what a proxy would have to understand differently is nobody's webhook."""
    said = exchange(served, post(path + receiver.secret, b"Content-Length: 2", b"Connection: close") + b"{}", awaited=1)

    assert statuses(said) == [404]
    assert bodies(receiver) == []


def test_a_secret_sent_twice_is_not_guessed_at(receiver: Receiver, served: Served) -> None:
    """Of several Authorization headers the first counts, and no combination of them."""
    right, wrong = (b"Authorization: Bearer %b" % secret for secret in (receiver.secret.encode(), b"0" * 32))
    length = b"Content-Length: 2"

    first = exchange(served, post("/webhooks/main", right, wrong, length) + b"{}", awaited=1)
    second = exchange(served, post("/webhooks/main", wrong, right, length) + b"{}", awaited=1)

    assert (statuses(first), statuses(second)) == ([200], [404])
