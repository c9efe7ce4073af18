from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest import app as module
from ingest.app import create_app
from ingest.limits import LARGE_BODY_BYTES, Limits
from schema.errors import LogUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Message

    from tests.ingest.conftest import Clock, Receiver

JSON = {"content-type": "application/json"}


class Client:
    """One request at a time to an application, without a server between."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request; its answer."""

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.7", 50_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(method, path, **more)

        return asyncio.run(request())

    def post(self, path: str, **more: Any) -> httpx.Response:
        """Send a POST; its answer."""
        return self.request("POST", path, **more)


@pytest.fixture
def client(receiver: Receiver) -> Client:
    return Client(receiver.app)


def test_a_delivery_is_recorded_as_it_came_and_answered_with_its_receipt(client: Client, receiver: Receiver):
    """Position, time of receipt and SHA-256 in the answer are those of the event in the log."""
    body = b' {"type": "package_empty", "items": [],\n "x": 1.10} '
    sent = {**JSON, "user-agent": "platform/1", "x-request-id": "r-1", "cookie": "no", "x-more": "no"}
    answer = client.post(receiver.path, content=body, headers=sent)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    [event] = receiver.events()
    assert answer.json() == {
        "position": event.position,
        "received_at": event.delivery.received_at,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    assert event.position == 1
    assert event.delivery.body == body
    assert event.delivery.source == "main"
    assert event.delivery.remote == "192.0.2.7"
    assert event.delivery.headers == {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": "platform/1",
        "x-request-id": "r-1",
    }


def test_the_time_of_receipt_is_that_of_the_whole_body(receiver: Receiver, clock: Clock):
    """A body that takes a minute to come was received when its last byte was."""

    async def slowly() -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"{"
            clock.now = clock.now.replace(minute=1)
            yield b"}"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://x") as client:
            return await client.post(receiver.path, content=body())

    assert asyncio.run(slowly()).json()["received_at"].startswith("2026-05-01T00:01:00")


@pytest.mark.parametrize(
    "body", [b'{"type": "never heard of"}', b'{"unknown": "shape"}', b"[]", b'"text"', b"7", b"null"]
)
def test_any_json_is_recorded_and_answered_200(client: Client, receiver: Receiver, body: bytes):
    """Whether a delivery is understood is no matter of the way in."""
    assert client.post(receiver.path, content=body).status_code == 200
    assert receiver.events()[0].delivery.body == body


@pytest.mark.parametrize("body", [b"", b"{", b"a=1&b=2", b"\xff\xfe", b"\x00" * 100, b'{"a": "\xff"}'])
def test_a_body_that_is_no_json_is_recorded_and_answered_400(client: Client, receiver: Receiver, body: bytes):
    """The sender is told that it is wrong, and where it is kept all the same."""
    answer = client.post(receiver.path, content=body)
    [event] = receiver.events()
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["position"] == event.position == 1
    assert problem["received_at"] == event.delivery.received_at
    assert problem["sha256"] == hashlib.sha256(body).hexdigest()
    assert event.delivery.body == body


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(body=st.binary(), agent=st.binary().filter(lambda value: b"\n" not in value))
def test_whatever_is_sent_is_in_the_log_byte_for_byte(client: Client, receiver: Receiver, body: bytes, agent: bytes):
    """Every delivery is answered 200 or 400, and the event at its position has its bytes."""
    answer = client.post(receiver.path, content=body, headers={"user-agent": agent})
    assert answer.status_code in {200, 400}
    event = receiver.tape.log.at(answer.json()["position"])
    assert event is not None
    assert event.delivery.body == body


def test_a_large_body_is_examined_off_the_loop_with_the_same_result(
    client: Client, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """Size changes where a body is hashed and checked, not what is said of it."""
    threads: list[str] = []
    examine = module.Webhooks._examine

    def noted(self: module.Webhooks, body: bytes) -> tuple[str, str | None]:
        threads.append(threading.current_thread().name)
        return examine(self, body)

    monkeypatch.setattr(module.Webhooks, "_examine", noted)
    good, bad = json.dumps("x" * LARGE_BODY_BYTES).encode(), b"x" * (LARGE_BODY_BYTES + 1)
    answers = [client.post(receiver.path, content=body) for body in (b"{}", good, bad)]
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    assert [answer.json()["sha256"] for answer in answers] == [
        hashlib.sha256(body).hexdigest() for body in (b"{}", good, bad)
    ]
    assert not threads[0].startswith("large-bodies")
    assert all(name.startswith("large-bodies") for name in threads[1:])


def test_concurrent_requests_share_commits(receiver: Receiver):
    """Fifty requests at once are fifty events, in far fewer commits, each answered with its own position."""

    async def fifty() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://x") as client:
            receiver.tape.open.clear()
            posts = [asyncio.ensure_future(client.post(receiver.path, content=b"%d" % n)) for n in range(50)]
            await receiver.until_waiting(50)
            receiver.tape.open.set()
            return await asyncio.gather(*posts)

    answers = asyncio.run(fifty())
    bodies = {event.position: event.delivery.body for event in receiver.events()}
    assert [bodies[answer.json()["position"]] for answer in answers] == [b"%d" % n for n in range(50)]
    assert len(receiver.tape.sizes) <= 2


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("user", ["main", "", "anyone"])
def test_the_secret_may_come_as_the_password_of_basic(client: Client, receiver: Receiver, user: str):
    """The URL names the source; the user name is not looked at."""
    answer = client.post("/webhooks/main", content=b"{}", headers=basic(user, receiver.secret))
    assert answer.status_code == 200


def test_the_secret_may_come_as_a_bearer_token(client: Client, receiver: Receiver):
    """And is not kept with the headers."""
    headers = {"authorization": f"Bearer {receiver.secret}"}
    assert client.post("/webhooks/main", content=b"{}", headers=headers).status_code == 200
    assert "authorization" not in receiver.events()[0].delivery.headers


def test_a_wrong_secret_and_a_wrong_source_get_one_and_the_same_404(client: Client, receiver: Receiver):
    """Same bytes and headers, with nothing of the request in them; and nothing is recorded."""
    right = receiver.secret
    wrong = [
        client.post("/webhooks/main/guess", content=b"{}"),
        client.post(f"/webhooks/main/{right}x", content=b"{}"),
        client.post(f"/webhooks/main/{right}%0A", content=b"{}"),
        client.post(f"/webhooks/none/{right}", content=b"{}"),
        client.post(f"/webhooks/Main/{right}", content=b"{}"),
        client.post("/webhooks/main", content=b"{}"),
        client.post("/webhooks/main", content=b"{}", headers=basic("main", "guess")),
        client.post("/webhooks/main", content=b"{}", headers={"authorization": "Bearer "}),
        client.post("/webhooks/none", content=b"{}", headers=basic("none", right)),
        client.post("/webhooks/main/guess", content=b"{}", headers=basic("main", right)),
    ]
    assert {(answer.status_code, answer.content, str(answer.headers)) for answer in wrong} == {
        (404, wrong[0].content, str(wrong[0].headers)),
    }
    assert wrong[0].json()["status"] == 404
    assert receiver.events() == []


def test_authentication_comes_before_the_body(receiver: Receiver):
    """Whoever is not let in gets the answer before the first byte is read."""
    order: list[str] = []

    async def receive() -> Message:
        order.append("read")
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        order.append(message["type"])

    async def request() -> None:
        headers = [(b"content-length", b"2")]
        scope = {"type": "http", "method": "POST", "path": "/webhooks/main/guess", "headers": headers, "client": None}
        await receiver.app(scope, receive, send)

    asyncio.run(request())
    assert order[:2] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    "path", ["/", "/webhooks", "/webhooks/", "/webhooks/main/SECRET/", "/webhooks//SECRET", "/SECRET"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_any_other_path_is_a_problem_that_repeats_nothing(client: Client, method: str, path: str):
    """No redirect, no echo: what is not a webhook might be one with a typing error, secret and all."""
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "SECRET" not in answer.text + str(answer.headers)
    if method != "HEAD":
        assert answer.json()["title"] == "Not Found"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/webhooks/main", "/webhooks/main/SECRET"])
def test_another_method_is_405(client: Client, method: str, path: str):
    """With the one that is allowed; whether source and secret are right plays no part."""
    answer = client.request(method, path, content=b"{}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "SECRET" not in answer.text + str(answer.headers)


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_413(start: Callable[..., Receiver]):
    """The limit is the last size that is accepted, whether it is announced or only comes."""
    receiver = start(Limits(body_bytes=10))
    client = Client(receiver.app)

    async def unannounced(size: int) -> AsyncIterator[bytes]:
        yield b"1" * 5
        yield b"1" * (size - 5)

    answers = [client.post(receiver.path, content=body) for body in (b"1" * 10, unannounced(10))]
    refusals = [client.post(receiver.path, content=body) for body in (b"1" * 11, unannounced(11))]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.status_code for answer in refusals] == [413, 413]
    assert refusals[0].json()["limit_bytes"] == 10
    assert refusals[0].content == refusals[1].content
    assert len(receiver.events()) == 2


@pytest.mark.parametrize("length", ["-1", "1e3", "²", "x", "9" * 10_000])
def test_a_content_length_that_is_no_number_plays_no_part(start: Callable[..., Receiver], length: str):
    """The header only ever makes a refusal earlier."""
    receiver = start(Limits(body_bytes=10))
    headers = {"content-length": length.encode("latin-1")}
    answer = Client(receiver.app).post(receiver.path, content=b"{}", headers=headers)
    assert answer.status_code == (413 if length.isdecimal() else 200)


def test_a_log_that_can_not_be_written_is_503_with_retry_after(client: Client, receiver: Receiver):
    """Nothing is acknowledged, and the sender is told nothing of the disk."""
    receiver.tape.fault = LogUnavailable("1 deliveries can't be appended: the disk /dev/sda is on fire")
    with capture_logs() as lines:
        answer = client.post(receiver.path, content=b"{}")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert "fire" not in answer.text
    assert "fire" in lines[0]["reason"]
    receiver.tape.fault = None
    assert client.post(receiver.path, content=b"{}").status_code == 503
    assert receiver.events() == []


def test_a_body_that_is_no_json_and_was_not_recorded_is_503(client: Client, receiver: Receiver):
    """A 400 names a position; without one there is nothing but the 503."""
    receiver.tape.fault = LogUnavailable("no")
    with capture_logs():
        for body in (b"{", b"x" * 1_000_000):
            assert client.post(receiver.path, content=body).status_code == 503


def test_past_the_bounds_a_delivery_is_503_and_told_to_come_again_soon(start: Callable[..., Receiver]):
    """While as many wait as may, the next is refused at once; when they are through, it is taken."""
    receiver = start(Limits(held_deliveries=3))

    async def four() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://x") as client:
            receiver.tape.open.clear()
            held = [asyncio.ensure_future(client.post(receiver.path, content=b"1")) for _ in range(3)]
            await receiver.until_waiting(3)
            refused = await client.post(receiver.path, content=b"1")
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["title"] == "Too many deliveries are waiting"
            receiver.tape.open.set()
            later = [*await asyncio.gather(*held), await client.post(receiver.path, content=b"1")]
            return [refused.status_code, *(answer.status_code for answer in later)]

    assert asyncio.run(four()) == [503, 200, 200, 200, 200]


def test_a_defect_is_a_problem_that_tells_nothing(receiver: Receiver, clock: Clock):
    """An error nobody thought of gives 500 without its text."""

    def defect(_body: bytes) -> str | None:
        raise RuntimeError(receiver.secret)

    app = create_app(receiver.sources, receiver.writer, clock=clock, not_json=defect)
    answer = Client(app).post(receiver.path, content=b"{}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert receiver.secret not in answer.text


def test_livez_says_that_the_process_answers(client: Client):
    """Without a secret, and whatever the log's state."""
    assert client.request("GET", "/livez").status_code == 200
    assert client.post("/livez", content=b"{}").status_code == 405


def test_no_file_and_no_line_holds_the_secret(client: Client, receiver: Receiver):
    """After every kind of answer, the secret is in no byte of the data folder and in no log line."""
    secret = receiver.secret
    with capture_logs() as lines:
        for body in (b"{}", b"{"):
            client.post(receiver.path, content=body, headers={"referer": receiver.path, "cookie": secret})
            client.post("/webhooks/main", content=body, headers=basic("main", secret))
            client.post("/webhooks/main", content=body, headers={"authorization": f"Bearer {secret}"})
        client.request("GET", receiver.path)
        client.post(f"{receiver.path}/", content=b"{}")
        client.post(f"/webhooks/none/{secret}", content=b"{}")
        receiver.tape.fault = LogUnavailable("no")
        client.post(receiver.path, content=b"{}")
    assert len(receiver.events()) == 6
    for file in receiver.folder.iterdir():
        assert secret.encode() not in file.read_bytes(), file
    assert lines
    assert secret not in repr(lines)
    assert secret not in repr(receiver.app) + repr(receiver.writer) + repr(receiver.sources)
