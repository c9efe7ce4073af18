from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest import loglines, problems
from ingest.limits import LINGER_BYTES, Limits
from ingest.server import serve
from ingest.sources import add
from schema.errors import ConfigurationError, LogUnavailable
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.ingest.conftest import Receiver, Served

DEADLINE_S = 20


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def plain(path: str, body: bytes) -> bytes:
    return head(path, f"Content-Length: {len(body)}") + body


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def answers(connection: socket.socket, count: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """So many answers: status, headers with lower-case names, body."""
    read: list[tuple[int, dict[str, str], bytes]] = []
    data = b""
    while len(read) < count:
        while b"\r\n\r\n" not in data:
            data += more(connection)
        start, _, data = data.partition(b"\r\n\r\n")
        lines = start.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers["content-length"])
        while len(data) < length:
            data += more(connection)
        read.append((int(lines[0].split()[1]), headers, data[:length]))
        data = data[length:]
    return read


def more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the server closed the connection before its answer was whole"
    return data


def closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection, without another byte."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def served(receiver: Receiver, run: Callable[..., Served]) -> Served:
    return run(receiver.app)


@pytest.fixture
def small(start: Callable[..., Receiver]) -> Receiver:
    """A receiver that takes bodies of at most 1,000 bytes."""
    return start(Limits(body_bytes=1_000))


def test_deliveries_on_one_connection_are_answered_in_order(receiver: Receiver, served: Served):
    """Also where the second is sent before the first is answered."""
    connection = served.connect()
    connection.sendall(plain(receiver.path, b"1") + plain(receiver.path, b"2") + plain(receiver.path, b"3"))
    assert [json.loads(body)["position"] for _, _, body in answers(connection, 3)] == [1, 2, 3]
    assert [event.delivery.body for event in receiver.events()] == [b"1", b"2", b"3"]


def test_an_answer_names_no_server(receiver: Receiver, served: Served):
    """Neither what it runs on, nor which version."""
    connection = served.connect()
    connection.sendall(plain(receiver.path, b"{}"))
    [(status, headers, _)] = answers(connection)
    assert status == 200
    assert headers.keys() == {"date", "content-type", "content-length"}


def test_a_chunked_body_is_one_event(receiver: Receiver, served: Served):
    """Chunks are how it travelled, not what it is."""
    connection = served.connect()
    connection.sendall(head(receiver.path, "Transfer-Encoding: chunked") + chunked(b'{"a":', b" 1", b"}", b""))
    assert answers(connection)[0][0] == 200
    assert receiver.events()[0].delivery.body == b'{"a": 1}'


def test_the_limit_counts_what_streams_in(small: Receiver, run: Callable[..., Served]):
    """A chunked body without an end is refused at the limit, while the sender still sends."""
    connection = run(small.app).connect()
    connection.sendall(head(small.path, "Transfer-Encoding: chunked") + chunked(*[b"x" * 100] * 11))
    [(status, headers, body)] = answers(connection)
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert json.loads(body)["limit_bytes"] == 1_000
    connection.sendall(chunked(b""))
    assert closed(connection)
    assert small.events() == []


def test_an_announced_body_over_the_limit_is_refused_before_it_comes(small: Receiver, run: Callable[..., Served]):
    """By its Content-Length alone."""
    connection = run(small.app).connect()
    connection.sendall(head(small.path, "Content-Length: 1001"))
    assert answers(connection)[0][0] == 413


def test_a_sender_that_sends_all_before_it_reads_gets_its_413(small: Receiver, run: Callable[..., Served]):
    """The answer is not lost to a reset, though the body was not wanted."""
    body = b"x" * 8_000_000
    served = run(small.app)
    for lines in (["Content-Length: 8000000"], ["Transfer-Encoding: chunked"]):
        connection = served.connect()
        connection.sendall(head(small.path, *lines) + (body if "Length" in lines[0] else chunked(body, b"")))
        assert answers(connection)[0][0] == 413
        assert closed(connection)


def test_a_sender_without_end_is_cut_off(receiver: Receiver, served: Served):
    """Of a body that nobody wants, only so much is read."""
    connection = served.connect()
    connection.sendall(head("/webhooks/main/guess", "Transfer-Encoding: chunked"))
    part, sent = chunked(b"x" * 1_000_000), 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < 4 * LINGER_BYTES:
            connection.sendall(part)
            sent += 1_000_000
    # What the kernel holds on both sides comes on top.
    assert sent < 2 * LINGER_BYTES
    assert receiver.events() == []


def test_a_refused_sender_that_waits_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch):
    """After the answer, the connection closes though the body never came."""
    monkeypatch.setattr(problems, "LINGER_S", 0.05)
    connection = served.connect()
    connection.sendall(head("/webhooks/main/guess", "Content-Length: 1000") + b"x")
    assert answers(connection)[0][0] == 404
    assert closed(connection)


@pytest.mark.parametrize(
    "request_line", ["POST {path}x HTTP/1.1", "POST /nowhere HTTP/1.1", "GET {path} HTTP/1.1", "GET / HTTP/1.1"]
)
def test_a_refused_request_without_a_body_keeps_its_connection(receiver: Receiver, served: Served, request_line: str):
    """There is nothing unread, so the next request may follow."""
    connection = served.connect()
    connection.sendall(request_line.format(path=receiver.path).encode() + b"\r\nHost: x\r\n\r\n")
    assert answers(connection)[0][0] in {404, 405}
    connection.sendall(plain(receiver.path, b"{}"))
    assert answers(connection)[0][0] == 200


def test_less_than_announced_is_nothing(receiver: Receiver, served: Served):
    """A sender that goes away in the middle of its body leaves no event."""
    for lines, body in ((["Content-Length: 10"], b"{}"), (["Transfer-Encoding: chunked"], chunked(b"{}"))):
        connection = served.connect()
        connection.sendall(head(receiver.path, *lines) + body)
        connection.shutdown(socket.SHUT_WR)
        assert closed(connection)
    connection = served.connect()
    connection.sendall(plain(receiver.path, b"{}"))
    assert answers(connection)[0][0] == 200
    assert len(receiver.events()) == 1


def test_more_than_announced_is_another_request(receiver: Receiver, served: Served):
    """Bytes after the announced ones are no part of the delivery; as they are no request either, 400."""
    connection = served.connect()
    connection.sendall(head(receiver.path, "Content-Length: 2") + b"{}XXXX\r\n\r\n")
    with closing(connection):
        while connection.recv(65_536):
            pass
    assert all(event.delivery.body == b"{}" for event in receiver.events())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        head("{path}", "Content-Length: x"),
        head("{path}", "Content-Length: -2"),
        head("{path}", "Content-Length: 2", "Content-Length: 3") + b"{}",
        head("{path}", "Content-Length: 2", "Transfer-Encoding: chunked") + b"{}",
        head("{path}", "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
        head("{path}\xff", "Content-Length: 2") + b"{}",
        head("{path}", "X: a\x00b", "Content-Length: 2") + b"{}",
    ],
)
def test_malformed_http_is_refused_and_costs_nobody_else(
    receiver: Receiver, served: Served, request_bytes: bytes, caplog: pytest.LogCaptureFixture
):
    """400 and the end of the connection: no event, no line with the URL, and the next sender is served."""
    connection = served.connect()
    connection.sendall(request_bytes.replace(b"{path}", receiver.path.encode()))
    answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert closed(connection)
    following = served.connect()
    following.sendall(plain(receiver.path, b"{}"))
    assert answers(following)[0][0] == 200
    assert len(receiver.events()) == 1
    assert receiver.secret not in caplog.text


def test_a_body_that_waits_for_a_go_ahead_is_given_it(receiver: Receiver, served: Served):
    """As curl does before it sends a larger body; one that is refused is not asked for."""
    connection = served.connect()
    connection.sendall(head(receiver.path, "Expect: 100-continue", "Content-Length: 8"))
    assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b'{"a": 1}')
    assert answers(connection)[0][0] == 200
    connection.sendall(head(receiver.path + "x", "Expect: 100-continue", "Content-Length: 8"))
    assert answers(connection)[0][0] == 404


OFFERS = [
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
    ["Connection: Upgrade", "Upgrade: websocket"],
]


@pytest.mark.parametrize("lines", OFFERS)
@pytest.mark.parametrize("cut", [None, 0, 30, -1, -5, -8, -9])
def test_a_body_that_comes_with_an_offer_is_not_lost(
    receiver: Receiver, served: Served, lines: list[str], cut: int | None
):
    """A sender that would rather speak HTTP/2 is heard out in HTTP/1.1, however its bytes arrive."""
    connection = served.connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = head(receiver.path, *lines, "Content-Length: 8") + b'{"a": 1}'
    for body in (b'{"a": 1}', b'{"a": 2}'):
        request = head(receiver.path, *lines, "Content-Length: 8") + body
        connection.sendall(request[:cut])
        if cut is not None:
            connection.sendall(request[cut:])
        assert answers(connection)[0][0] == 200
    assert [event.delivery.body for event in receiver.events()] == [b'{"a": 1}', b'{"a": 2}']


@pytest.mark.parametrize("lines", OFFERS)
def test_a_body_that_comes_with_an_offer_is_no_request_of_its_own(receiver: Receiver, served: Served, lines: list[str]):
    """What a body holds is never taken for the next request, nor the next request for a body."""
    inner = plain(receiver.path, b"1")
    outer = head(receiver.path, *lines, f"Content-Length: {len(inner)}") + inner
    chunks = head(receiver.path, *lines, "Transfer-Encoding: chunked") + chunked(b"2", b"3", b"")
    connection = served.connect()
    connection.sendall(outer + chunks + plain(receiver.path, b"4"))
    assert [status for status, _, _ in answers(connection, 3)] == [400, 200, 200]
    assert [event.delivery.body for event in receiver.events()] == [inner, b"23", b"4"]


def test_the_whole_url_and_escapes_name_the_same_webhook(receiver: Receiver, served: Served):
    """The absolute form that proxies use, a query, and a percent-encoded secret (RFC 3986 §6.2.2)."""
    escaped = "/webhooks/main/" + "".join(f"%{ord(character):02x}" for character in receiver.secret)
    for path in (f"http://audit.example{receiver.path}", f"{receiver.path}?a=b", escaped):
        connection = served.connect()
        connection.sendall(plain(path, b"{}"))
        assert answers(connection)[0][0] == 200


def test_a_sender_is_who_is_connected_unless_a_proxy_is_trusted(receiver: Receiver, run: Callable[..., Served]):
    """X-Forwarded-For is kept as a header, and believed only from the addresses that were told."""
    request = head(receiver.path, "X-Forwarded-For: 192.0.2.9", "Content-Length: 2") + b"{}"
    for allowed in (None, "192.0.2.1", "127.0.0.1"):
        connection = run(receiver.app, allowed).connect()
        connection.sendall(request)
        assert answers(connection)[0][0] == 200
    deliveries = [event.delivery for event in receiver.events()]
    assert [delivery.remote for delivery in deliveries] == ["127.0.0.1", "127.0.0.1", "192.0.2.9"]
    assert {delivery.headers["x-forwarded-for"] for delivery in deliveries} == {"192.0.2.9"}


RECEIVER = '''
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from ingest import appender, server

folder = Path(sys.argv[1])
if "broken" in sys.argv:
    appender.PROGRAM = (sys.executable, "-c", """
import sys
from ingest import appender
from schema.errors import LogUnavailable
from schema.log import Log
def append(self, rows):
    raise LogUnavailable("nothing works")
Log.append_rows = append
sys.exit(appender.main(int(sys.argv[1])))
""")
sys.exit(server.serve(
    place=folder / "log.db",
    sources_path=folder / "sources.json",
    clock=lambda: datetime.now(UTC),
    ready=lambda url: print(url, flush=True),
    port=0,
))
'''


class Process:
    """A receiver in a process of its own."""

    def __init__(self, folder: Path, *more: str) -> None:
        path = folder / "sources.json"
        path.unlink(missing_ok=True)
        self.secret = add(path, "main", now=datetime(2026, 5, 1, tzinfo=UTC), entropy=os.urandom)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RECEIVER, str(folder), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    @property
    def webhook(self) -> str:
        """The URL to post to."""
        return f"{self.url}/webhooks/main/{self.secret}"

    def end(self, number: signal.Signals) -> tuple[int, list[dict[str, object]]]:
        """Send a signal; the exit code, and the lines of the receiver's own log."""
        self.process.send_signal(number)
        _, lines = self.process.communicate(timeout=DEADLINE_S)
        assert self.secret not in lines
        return self.process.returncode, [json.loads(line) for line in lines.splitlines()]


@contextmanager
def process(folder: Path, *more: str) -> Iterator[Process]:
    process = Process(folder, *more)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_receiver_says_where_it_listens_and_stops_when_told(folder: Path, number: signal.Signals):
    """Ready with its URL, 0 at the end, the log closed, and one JSON object a line of its own log."""
    with process(folder) as receiver:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", receiver.url)
        assert httpx.post(receiver.webhook, content=b"{}").json()["position"] == 1
        assert httpx.post(receiver.webhook + "x", content=b"{}").status_code == 404
        code, lines = receiver.end(number)
    assert code == 0
    assert [line["event"] for line in lines] == ["receiving", "recorded", "refused", "stopped"]
    assert sorted(file.name for file in folder.iterdir()) == ["log.db", "sources.json"]


def test_a_stopping_receiver_finishes_what_it_has_begun(folder: Path):
    """A sender that is in the middle of its body when the stop comes still gets its receipt."""
    with process(folder) as receiver:
        host, port = receiver.url.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), timeout=DEADLINE_S)) as connection:
            path = receiver.webhook.removeprefix(receiver.url)
            # The go-ahead says that the request is in the application's hands.
            connection.sendall(head(path, "Content-Length: 2", "Expect: 100-continue"))
            assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            receiver.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + DEADLINE_S
            while refuses_no_connection(host, int(port)):
                assert time.monotonic() < deadline
            connection.sendall(b"{}")
            [(status, headers, _)] = answers(connection)
        assert (status, headers["connection"]) == (200, "close")
        assert receiver.process.wait(DEADLINE_S) == 0
    assert head_of(folder) == 1


def refuses_no_connection(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=DEADLINE_S).close()
    except ConnectionError:
        return False
    return True


def head_of(folder: Path) -> int:
    with open_to_read(folder / "log.db") as log:
        return log.head()


def test_what_was_acknowledged_survives_a_kill(folder: Path):
    """SIGKILL right after answers, under load: every receipt's event is there with its bytes."""
    with process(folder) as receiver, ThreadPoolExecutor(8) as pool:

        def post_until_killed(sender: int) -> list[tuple[int, bytes]]:
            receipts: list[tuple[int, bytes]] = []
            with httpx.Client() as client:
                for n in range(10_000):
                    body = b'"%d of %d"' % (n, sender)
                    try:
                        answer = client.post(receiver.webhook, content=body)
                    except httpx.TransportError:
                        break
                    receipts.append((answer.json()["position"], body))
                    if sender == 0 and n == 20:
                        receiver.process.kill()
            return receipts

        receipts = [receipt for receipts in pool.map(post_until_killed, range(8)) for receipt in receipts]
    assert len(receipts) > 20
    with open_to_read(folder / "log.db") as log:
        stored = {event.position: event.delivery.body for event in log.after(0, max_events=100_000)}
    assert [receipt for receipt in receipts if stored.get(receipt[0]) != receipt[1]] == []
    with process(folder) as again:
        assert httpx.post(again.webhook, content=b"{}").json()["position"] == len(stored) + 1


def test_a_receiver_whose_writer_stopped_says_so_at_its_end(folder: Path):
    """It answers 503 until it is stopped, and then its exit code is 1."""
    with process(folder, "broken") as receiver:
        for _ in range(2):
            assert httpx.post(receiver.webhook, content=b"{}").status_code == 503
        code, lines = receiver.end(signal.SIGTERM)
    assert code == 1
    assert [line["event"] for line in lines] == [
        "receiving",
        "the writer has stopped",
        "refused",
        "refused",
        "stopped",
    ]
    assert "nothing works" in str(lines[1]["reason"])


def test_a_receiver_whose_appender_was_killed_ends_by_itself(folder: Path):
    """Also where nothing comes; whoever runs it starts it again, and what was acknowledged is there."""
    with process(folder) as receiver:
        assert httpx.post(receiver.webhook, content=b"1").status_code == 200
        children = Path(f"/proc/{receiver.process.pid}/task/{receiver.process.pid}/children")
        if not children.exists():
            pytest.skip("needs Linux, to tell who is whose child")
        os.kill(int(children.read_text()), signal.SIGKILL)
        assert receiver.process.wait(20) == 1
        _, lines = receiver.end(signal.SIGTERM)
    assert [line["event"] for line in lines if line["level"] == "error"] == ["the appender says nothing more"]
    with process(folder) as again:
        assert httpx.post(again.webhook, content=b"2").json()["position"] == 2


@pytest.fixture
def serve_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], int]:
    """Serve in this process, which keeps its own logging."""
    monkeypatch.setattr(loglines, "configure", lambda: None)
    return lambda folder, port: serve(
        place=folder / "log.db",
        sources_path=folder / "sources.json",
        clock=lambda: datetime.now(UTC),
        ready=print,
        port=port,
    )


def test_an_address_in_use_is_an_error_that_says_what_to_do(folder: Path, serve_at: Callable[[Path, int], int]):
    """And nothing is made or left behind."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as other,
        pytest.raises(ConfigurationError, match="take another"),
    ):
        serve_at(folder, other.getsockname()[1])
    assert list(folder.iterdir()) == []


def test_a_log_that_can_not_be_opened_is_an_error(folder: Path, serve_at: Callable[[Path, int], int]):
    """The receiver does not start only to refuse everything."""
    (folder / "log.db").mkdir()
    with pytest.raises(LogUnavailable):
        serve_at(folder, 0)
    (folder / "log.db").rmdir()
