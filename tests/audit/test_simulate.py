"""simtrail simulate: what it sends, what it does when the receiver doesn't answer, and what it never prints."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

import click
import httpx
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from audit import platform, simulate
from audit.folder import DataFolder, hold, tell_receiving
from ingest import sources
from schema.errors import ConfigurationError
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "s3cret-of-the-url"  # noqa: S105 - the one that must not be printed
URL = httpx.URL(f"http://user:{SECRET}@receiver.example:8080/webhooks/main/{SECRET}?token={SECRET}")


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        self.pauses.append(seconds)
        self.now += seconds


class Receiver(ThreadingHTTPServer):
    """A receiver on loopback that notes what comes, and answers each in turn."""

    daemon_threads = True

    def __init__(self, statuses: Callable[[bytes], int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = statuses
        self.bodies: list[bytes] = []
        self.connections: set[object] = set()
        self.types: set[str | None] = set()

    @property
    def url(self) -> str:
        """Its webhook URL."""
        return f"http://127.0.0.1:{self.server_port}/webhooks/main/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        receiver = cast("Receiver", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        receiver.bodies.append(body)
        receiver.connections.add(self.client_address)
        receiver.types.add(self.headers["content-type"])
        self.send_response(receiver.statuses(body))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(statuses: Callable[[bytes], int] = lambda _: 200) -> Iterator[Receiver]:
    with Receiver(statuses) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


def send(
    answers: Callable[[httpx.Request], httpx.Response],
    bodies: list[bytes],
    per_second: float = 0,
) -> tuple[simulate.Outcome, Clock]:
    clock = Clock()
    outcome = simulate.Outcome()
    with httpx.Client(transport=httpx.MockTransport(answers)) as client:
        simulate.send(
            client,
            URL,
            bodies,
            per_second=per_second,
            outcome=outcome,
            clock=lambda: clock.now,
            pause=clock.pause,
        )
    return outcome, clock


def run(*words: str, environment: dict[str, str] | None = None) -> Result:
    result = CliRunner(env=environment).invoke(simulate.simulate, list(words))
    assert SECRET not in result.output
    return result


# Sending.


def test_deliveries_are_sent_in_order_each_as_it_is() -> None:
    """Each body is posted once, whole and in turn, to the URL, as JSON."""
    got = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append((request.method, request.url, request.headers["content-type"], request.read()))
        return httpx.Response(200)

    outcome, _ = send(answer, [b"1", b"not JSON", b"3"])

    assert got == [("POST", URL, "application/json", body) for body in (b"1", b"not JSON", b"3")]
    assert (outcome.answers, outcome.retries) == ({200: 3}, 0)


def test_the_rate_is_kept() -> None:
    """Deliveries leave at the rate asked for, the first at once; a slow answer is caught up with."""
    clock_times = []
    clock = Clock()

    def answer(_: httpx.Request) -> httpx.Response:
        clock_times.append(clock.now - 100)
        if len(clock_times) == 3:
            clock.now += 0.5
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        simulate.send(
            client,
            URL,
            [b""] * 10,
            per_second=10,
            outcome=simulate.Outcome(),
            clock=lambda: clock.now,
            pause=clock.pause,
        )

    assert clock_times == pytest.approx([0, 0.1, 0.2, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8, 0.9])


def test_without_a_rate_nothing_waits() -> None:
    """Rate 0 sends each as soon as the one before it was answered."""
    _, clock = send(lambda _: httpx.Response(200), [b""] * 10)

    assert clock.pauses == []


def test_a_delivery_without_an_answer_is_tried_again() -> None:
    """A lost connection or a 5xx is tried again with the same body after growing pauses; the answer counts once."""
    got = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append(request.read())
        if len(got) == 1:
            msg = f"lost {request.url}"
            raise httpx.ReadError(msg)
        return httpx.Response(503 if len(got) < 4 else 200)

    outcome, clock = send(answer, [b"a", b"b"])

    assert got == [b"a"] * 4 + [b"b"]
    assert clock.pauses == [0.5, 1, 2]
    assert (outcome.answers, outcome.retries) == ({200: 2}, 3)


@pytest.mark.parametrize(
    ("said", "paused"), [("7", 7), ("3600", 30), ("0", 0.5), ("tomorrow", 0.5), ("-5", 0.5), ("²", 0.5)]
)
def test_retry_after_is_heeded(said: str, paused: float) -> None:
    """The receiver's own Retry-After is waited for, within reason, and never less than the pause there is anyway."""
    answers = [httpx.Response(503, headers=[(b"retry-after", said.encode())]), httpx.Response(200)]

    _, clock = send(lambda _: answers.pop(0), [b""])

    assert clock.pauses == [paused]


def test_a_receiver_that_can_not_write_is_given_up_for_that_delivery() -> None:
    """After five attempts a 5xx is the answer that counts, and the next delivery is sent."""
    got = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append(request.read())
        return httpx.Response(503 if request.read() == b"a" else 200)

    outcome, _ = send(answer, [b"a", b"b"])

    assert got == [b"a"] * 5 + [b"b"]
    assert outcome.answers == {503: 1, 200: 1}


def test_a_receiver_that_never_answers_ends_it() -> None:
    """After five attempts without any answer it stops, and says where it knocked without the secret."""
    got = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append(request.read())
        msg = f"refused {request.url}"
        raise httpx.ConnectError(msg)

    with pytest.raises(click.ClickException) as raised:
        send(answer, [b"a", b"b"])

    assert raised.value.message == (
        "http://receiver.example:8080 does not answer (ConnectError, 5 attempts): is the receiver running?"
    )
    assert raised.value.__suppress_context__
    assert got == [b"a"] * 5


def test_a_wrong_secret_ends_it_at_once() -> None:
    """A 404 stops the first delivery: no other would be taken either."""
    got = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append(request.read())
        return httpx.Response(404)

    with pytest.raises(
        click.ClickException, match=r"^http://receiver.example:8080 answers 404: it knows no such source"
    ):
        send(answer, [b"a", b"b"])

    assert got == [b"a"]


@pytest.mark.parametrize("status", [400, 413, 405, 301])
def test_other_answers_are_counted(status: int) -> None:
    """An answer that refuses one delivery is an answer: the next is sent, and nothing is followed elsewhere."""
    outcome, _ = send(lambda _: httpx.Response(status, headers={"location": "http://elsewhere.example"}), [b"a", b"b"])

    assert outcome.answers == {status: 2}


# The command.


def test_the_command_sends_what_the_platform_would() -> None:
    """The command posts the platform's bodies over one connection and sums up in a line."""
    with receiving(lambda body: 200 if body.startswith(b'{"qid"') else 400) as receiver:
        result = run("--url", receiver.url, "--rate", "0", "--count", "120", "--seed", "7", "--start", "2025-12-01")

    expected = list(platform.deliveries(7, 120, 200, datetime(2025, 12, 1, tzinfo=UTC)))
    assert receiver.bodies == expected
    assert len(receiver.connections) == 1
    assert receiver.types == {"application/json"}
    assert result.exit_code == 0
    refused = sum(not body.startswith(b'{"qid"') for body in expected)
    assert result.stdout.startswith("120 deliveries in ")
    assert result.stdout.endswith(f"/s): {120 - refused} answered 200, {refused} answered 400\n")


def test_the_story_ends_about_now_by_itself() -> None:
    """Without a start, what is told is over today, and the same day gives the same bodies."""

    def told() -> list[bytes]:
        return list(platform.deliveries(1, 30, 200, platform.begun(1, 30, 200, datetime.now(UTC))))

    before = told()
    with receiving() as receiver:
        assert run("--url", receiver.url, "--rate", "0", "--count", "30").exit_code == 0

    assert receiver.bodies in (before, told())  # Midnight may fall between.


def test_the_url_may_come_from_the_environment() -> None:
    """SIMTRAIL_URL stands for --url, so that the secret need not stand in a list of processes."""
    with receiving() as receiver:
        result = run("--rate", "0", "--count", "1", environment={"SIMTRAIL_URL": receiver.url})

    assert result.exit_code == 0
    assert result.stdout.startswith("1 delivery in ")


def test_without_a_url_a_source_of_its_own_delivers(tmp_path: Path) -> None:
    """What is made up comes from the source `simulated` of the data folder, whose earlier secret ends each time."""
    with receiving() as receiver:
        words = ["--rate", "0", "--count", "1", "--data", str(tmp_path), "--port", str(receiver.server_port)]
        results = [run(*words) for _ in range(2)]

    assert [result.exit_code for result in results] == [0, 0]
    (source,) = sources.listed(tmp_path / "sources.json")
    assert (source.name, len(source.secrets)) == ("simulated", 1)


def test_where_the_receiver_is_at_work_is_asked_of_the_folder(tmp_path: Path) -> None:
    """At whatever port, and by TLS with a certificate that nobody here trusts; what the options say counts first."""
    folder = DataFolder(tmp_path)
    words = ["--rate", "0", "--count", "1", "--data", str(tmp_path)]
    with receiving() as plain, receiving() as secure, hold(folder, "receiver"):
        secure.socket = _tls(tmp_path).wrap_socket(secure.socket, server_side=True)
        results = []
        for url in (f"http://127.0.0.1:{plain.server_port}", f"https://127.0.0.1:{secure.server_port}"):
            tell_receiving(folder, url)
            results.append(run(*words))
        results.append(run(*words, "--port", str(plain.server_port)))

    assert [result.exit_code for result in results] == [0, 0, 0], [result.output for result in results]
    assert (len(plain.bodies), len(secure.bodies)) == (2, 1)


def _tls(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate for another host, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins + timedelta(days=1))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / "tls.pem"
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        + builder.sign(key, hashes.SHA256()).public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_certificate_is_checked_where_a_url_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a URL may mean another machine: nothing is sent to one that only says that it is it."""
    monkeypatch.setattr(simulate, "FIRST_PAUSE_S", 0)
    with receiving() as receiver:
        receiver.socket = _tls(tmp_path).wrap_socket(receiver.socket, server_side=True)
        result = run("--url", receiver.url.replace("http:", "https:"))

    assert (result.exit_code, receiver.bodies) == (1, [])


def test_no_source_is_made_for_a_receiver_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, so nobody sent it; a source that is there keeps its secret."""
    monkeypatch.setattr(simulate, "FIRST_PAUSE_S", 0)
    with receiving() as receiver:
        words = ["--rate", "0", "--count", "1", "--data", str(tmp_path), "--port", str(receiver.server_port)]
    kept = tmp_path / "sources.json"

    result = run(*words)

    assert (result.exit_code, kept.exists()) == (1, False)
    assert "does not answer (ConnectError, 5 attempts): is the receiver running? --host and --port" in result.stderr
    sources.add(kept, "simulated", now=datetime.now(UTC), entropy=lambda size: b"s" * size)
    before = kept.read_bytes()
    assert run(*words).exit_code == 1
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://h/{SECRET}",
        f"/webhooks/main/{SECRET}",
        f"http:///{SECRET}",
        f"http://h:x/{SECRET}",
    ],
)
def test_what_is_no_url_is_refused_and_not_shown(url: str) -> None:
    """A URL that can't be posted to is wrong usage, told without the URL."""
    result = run("--url", url)

    assert result.exit_code == 2
    assert "no http or https URL" in result.output


@pytest.mark.parametrize(
    "words", [["--rate", "-1"], ["--count", "0"], ["--cards", "0"], ["--cards", "100001"], ["--start", "x"]]
)
def test_options_out_of_range_are_refused(words: list[str]) -> None:
    """What can't be simulated is wrong usage."""
    assert run("--url", "http://127.0.0.1:9/", *words).exit_code == 2


def test_no_receiver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the command fails, and says that nothing was sent."""
    monkeypatch.setattr(simulate, "FIRST_PAUSE_S", 0)
    with receiving() as receiver:
        url = receiver.url

    result = run("--url", url)

    assert result.exit_code == 1
    assert "does not answer (ConnectError, 5 attempts): is the receiver running?" in result.stderr
    assert result.stdout.startswith("0 deliveries in ")


def test_ctrl_c_sums_up_and_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the sending, tells what was sent by then, and exits as shells have it."""

    def interrupted(*_: object) -> Iterator[bytes]:
        yield b"{}"
        yield b"{}"
        raise KeyboardInterrupt

    monkeypatch.setattr(platform, "deliveries", interrupted)
    with receiving() as receiver:
        result = run("--url", receiver.url, "--rate", "0")

    assert result.exit_code == 130
    assert result.stdout.startswith("2 deliveries in ")


# Into a log.


def test_a_past_is_recorded_as_it_happened(tmp_path: Path) -> None:
    """Each body was received when it was sent, spread over weeks that end today; the log holds together as any other."""
    data = tmp_path / "data"
    result = run("--into-log", "--data", str(data), "--count", "300", "--cards", "40")
    now = datetime.now(UTC)
    with open_to_read(data / "log.db") as log:
        events = log.after(0)

    assert (result.exit_code, result.stdout) == (0, f"{len(events)} deliveries recorded in {data}\n")
    assert 300 <= len(events) < 400
    at = [datetime.fromisoformat(event.delivery.received_at) for event in events]
    assert at == sorted(at)
    assert at[-1] <= now < at[-1] + timedelta(days=2)
    assert len({each.date() for each in at}) > 20
    assert {event.delivery.source for event in events} == {simulate.SOURCE}
    start = platform.begun(1, 300, 40, now)
    assert [event.delivery.body for event in events[:300]] == list(platform.deliveries(1, 300, 40, start))


def test_a_past_is_put_in_no_log_that_has_events(tmp_path: Path) -> None:
    """What was received is never mixed with what is made up; nor may a receiver run meanwhile, nor a URL be given too."""
    words = ("--into-log", "--data", str(tmp_path), "--count", "3")
    with hold(DataFolder(tmp_path), "receiver"):
        assert isinstance(run(*words).exception, ConfigurationError)
    assert run(*words).exit_code == 0
    again = run(*words)
    assert isinstance(again.exception, ConfigurationError)
    assert "has events already" in str(again.exception)
    for more in (("--url", "http://127.0.0.1:9/"), ("--start", "2026-05-01")):
        assert run(*words, *more).exit_code == 2
    with open_to_read(tmp_path / "log.db") as log:
        assert log.head() == len(log.after(0)) >= 3


@pytest.mark.parametrize("number", [1, 500, 2000])
@pytest.mark.parametrize("end", [datetime(2026, 1, 9, 12, tzinfo=UTC), datetime(2026, 5, 31, 23, 59, tzinfo=UTC)])
def test_a_story_is_over_by_its_end(number: int, end: datetime) -> None:
    """Nothing is told of the future, over holidays too, and the last of it is of the last days."""
    start = platform.begun(1, number, 200, end)
    times = [at for at, _ in platform.timed(1, number, 200, start)]

    assert start <= end - platform.SPAN
    assert max(times) <= end
    assert number == 1 or max(times) > end - timedelta(days=6)
