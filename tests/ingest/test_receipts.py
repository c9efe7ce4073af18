"""Receipts over HTTP: who gets one, and what everybody else is told."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest import sources
from ingest.app import create_app
from schema.body import not_json
from schema.errors import NotSealed, SealError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from tests.ingest.conftest import Clock, Receiver

BODY = b'{"type": "package_empty"}'


@pytest.fixture
def receiver(start: Callable[[], Receiver]) -> Receiver:
    return start()


@pytest.fixture
def app(receiver: Receiver, clock: Clock) -> ASGIApp:
    """A receiver that makes receipts of a line; position 7 isn't sealed yet, and 8 can't be."""

    def find(position: int, asks: Callable[[str], bool]) -> str | None:
        if not asks("main"):
            return None
        if position == 7:
            msg = "will be sealed in a second"
            raise NotSealed(msg)
        if position == 8:
            msg = "the seals /srv/seals.db can't be read"
            raise SealError(msg)
        return f"receipt of {position}\n" if position < 9 else None

    return create_app(receiver.sources, receiver.writer, clock=clock, not_json=not_json, receipts=find)


def ask(
    app: ASGIApp, path: str, authorization: str | None = None, method: str = "GET", body: bytes = BODY
) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            headers = {} if authorization is None else {"authorization": authorization}
            return await client.request(method, path, headers=headers, content=body if method == "POST" else None)

    return asyncio.run(request())


def test_a_recorded_webhook_names_where_its_receipt_will_be(app: ASGIApp, receiver: Receiver):
    """A path on the same receiver; without receipts there is no such member."""
    told = ask(app, receiver.path, method="POST").json()
    assert told["receipt"] == f"/receipts/{told['position']}"
    assert ask(app, told["receipt"], f"Bearer {receiver.secret}").text == f"receipt of {told['position']}\n"

    told = ask(app, receiver.path, method="POST", body=b"not JSON").json()
    assert (told["status"], told["receipt"]) == (400, f"/receipts/{told['position']}")

    assert "receipt" not in ask(receiver.app, receiver.path, method="POST", body=b"not JSON").json()
    told = ask(receiver.app, receiver.path, method="POST").json()
    assert told.keys() == {"position", "received_at", "sha256"}
    assert ask(receiver.app, "/receipts/1", f"Bearer {receiver.secret}").status_code == 404


@pytest.mark.parametrize("user", ["main", "anyone", ""])
def test_the_source_gets_its_receipt(app: ASGIApp, receiver: Receiver, user: str):
    """With its secret as a bearer token or as a password; as text, under a name that the verifier knows."""
    basic = base64.b64encode(f"{user}:{receiver.secret}".encode()).decode()
    for authorization in (f"Bearer {receiver.secret}", f"Basic {basic}"):
        answer = ask(app, "/receipts/3", authorization)
        assert (answer.status_code, answer.text) == (200, "receipt of 3\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"] == 'inline; filename="3.tlog-proof"'
        assert answer.headers["cache-control"] == "no-store"


def test_a_wrong_secret_and_a_missing_event_look_the_same(app: ASGIApp, receiver: Receiver):
    """Nobody learns from an answer which positions there are; another source's secret is a wrong one."""
    other = sources.add(
        receiver.folder / "sources.json", "other", now=receiver.writer._clock(), entropy=lambda size: b"o" * size
    )
    right = f"Bearer {receiver.secret}"
    answers = [
        ask(app, path, authorization)
        for path, authorization in (
            ("/receipts/3", "Bearer wrong"),
            ("/receipts/3", f"Bearer {other}"),
            ("/receipts/9", right),
            ("/receipts/0", right),
            ("/receipts/-1", right),
            ("/receipts/٣", right),
            ("/receipts/" + "9" * 400, right),
            ("/receipts/x", right),
        )
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Basic", "Negotiate x"])
def test_who_brings_no_secret_is_asked_for_one(app: ASGIApp, authorization: str | None):
    """Which tells nothing, and lets a browser ask its user."""
    answer = ask(app, "/receipts/3", authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_receipt_that_is_not_there_yet_is_to_be_asked_for_again(app: ASGIApp, receiver: Receiver):
    """503, which clients try again by themselves, after a second; later where something is wrong. No path is told."""
    waiting, broken = (ask(app, f"/receipts/{n}", f"Bearer {receiver.secret}") for n in (7, 8))
    assert [waiting.status_code, waiting.headers["retry-after"]] == [503, "1"]
    assert waiting.json()["type"].endswith(":receipt-not-yet")
    assert [broken.status_code, broken.headers["retry-after"]] == [503, "30"]
    assert broken.json()["type"].endswith(":receipt-unavailable")
    assert "/srv" not in broken.text


def test_only_get_and_head_ask_for_a_receipt(app: ASGIApp, receiver: Receiver):
    """A receipt is nothing that anyone sends."""
    assert ask(app, "/receipts/3", f"Bearer {receiver.secret}", "POST").status_code == 405
    assert ask(app, "/receipts/3", f"Bearer {receiver.secret}", "HEAD").status_code == 200


@pytest.mark.parametrize("broken", [False, True])
def test_readyz_tells_how_the_log_is_sealed(receiver: Receiver, clock: Clock, broken: bool):  # noqa: FBT001
    """Or why nobody can tell; the receiver is ready all the same."""

    def seals() -> dict[str, object]:
        if broken:
            msg = "the seals can't be read"
            raise SealError(msg)
        return {"position": 3}

    answer = ask(create_app(receiver.sources, receiver.writer, clock=clock, not_json=not_json, seals=seals), "/readyz")
    assert answer.status_code == 200
    assert answer.json()["seals"] == ({"reason": "the seals can't be read"} if broken else {"position": 3})
