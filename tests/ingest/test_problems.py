from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from ingest import problems
from ingest.limits import LINGER_BYTES
from ingest.problems import BODY_READ, BUSY, LOG_UNAVAILABLE, NO_SUCH_WEBHOOK, Problem

if TYPE_CHECKING:
    from starlette.types import Message, Scope

SCOPE: Scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}


def answer(problem: Problem, scope: Scope, incoming: list[Message]) -> tuple[list[Message], int]:
    """What is sent, and how many of the incoming messages were taken before the end."""
    sent: list[Message] = []
    left = iter(incoming)
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        try:
            return next(left)
        except StopIteration:
            await asyncio.Event().wait()
            raise

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(problem(scope, receive, send))
    return sent, taken


@pytest.mark.parametrize(
    ("problem", "status", "title"),
    [
        (NO_SUCH_WEBHOOK, 404, "Not Found"),
        (BUSY, 503, "Too many deliveries are waiting"),
        (LOG_UNAVAILABLE, 503, "The log can't be written"),
        (problems.body_too_large(7), 413, "The body is too large"),
        (problems.not_json("why", position=1, received_at="then", sha256="0f"), 400, "The body is not JSON"),
    ],
)
def test_a_problem_is_a_problem_document(problem: Problem, status: int, title: str):
    """Type, title, status and detail, as RFC 9457 §3.1 has them, in its media type."""
    document = json.loads(bytes(problem.body))
    assert (document["status"], document["title"]) == (problem.status_code, title) == (status, title)
    assert document["type"] == "about:blank" or document["type"].startswith(problems.TYPES)
    assert document["detail"].endswith((".", "why"))
    assert problem.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in problem.headers) == (status == 503)


def test_any_reason_can_be_told():
    """What an error says of hostile bytes, be it half a surrogate pair, still makes a document."""
    problem = problems.not_json('at \udcff \x00 "', position=3, received_at="then", sha256="0f")
    assert json.loads(bytes(problem.body))["position"] == 3


def test_the_rest_of_an_unwanted_body_is_read_up_to_a_bound():
    """The answer goes first; then so much is dropped, and no more, before the connection closes."""
    part = {"type": "http.request", "body": b"x" * (LINGER_BYTES // 4), "more_body": True}
    sent, taken = answer(NO_SUCH_WEBHOOK, SCOPE, [part] * 10)
    assert taken == 4
    assert (b"connection", b"close") in sent[0]["headers"]
    assert [(message.get("body", b""), message.get("more_body", False)) for message in sent[1:]] == [
        (NO_SUCH_WEBHOOK.body, True),
        (b"", False),
    ]


def test_a_sender_that_stops_halfway_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch):
    """A refused sender that neither sends on nor goes away is cut off."""
    monkeypatch.setattr(problems, "LINGER_S", 0.01)
    sent, _ = answer(NO_SUCH_WEBHOOK, SCOPE, [{"type": "http.request", "body": b"x", "more_body": True}])
    assert sent[-1] == {"type": "http.response.body"}


@pytest.mark.parametrize("last", [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}])
def test_no_more_is_awaited_than_will_come(last: Message):
    """The end of the body, or of the sender, ends the wait."""
    assert answer(NO_SUCH_WEBHOOK, SCOPE, [last])[1] == 1


@pytest.mark.parametrize(
    "scope",
    [
        {**SCOPE, BODY_READ: True},
        {"type": "http", "headers": []},
        {"type": "http", "headers": [(b"content-length", b"0")]},
    ],
)
def test_a_connection_stays_where_nothing_unread_is_left(scope: Scope):
    """A sender whose request was read to its end may go on with the next one."""
    sent, taken = answer(BUSY, scope, [])
    assert taken == 0
    assert b"connection" not in dict(sent[0]["headers"])
