from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ingest.body import Place, Room
from ingest.limits import Limits
from ingest.problems import BODY_READ, BUSY, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive, Scope

LIMITS = Limits(body_bytes=100, held_bytes=150, held_deliveries=2)


def coming(messages: Iterable[Message]) -> Receive:
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


def chunks(parts: list[bytes]) -> list[Message]:
    return [
        {"type": "http.request", "body": part, "more_body": n < len(parts)} for n, part in enumerate(parts, start=1)
    ]


def read(room: Room, messages: list[Message], scope: Scope | None = None) -> bytes | Problem | None:
    async def read() -> bytes | Problem | None:
        with Place(room) as place:
            return await place.read({} if scope is None else scope, coming(messages))

    return asyncio.run(read())


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_a_body_is_read_whole_or_refused_by_its_size_alone(parts: list[bytes]):
    """However a body is cut, its bytes decide; and its place in the room is given up."""
    room, body = Room(LIMITS), b"".join(parts)
    scope: Scope = {}
    read_body = read(room, chunks(parts), scope)
    if len(body) <= LIMITS.body_bytes:
        assert read_body == body
        assert BODY_READ in scope
    else:
        assert isinstance(read_body, Problem)
        assert read_body.status_code == 413
    assert (room.deliveries, room.bytes) == (0, 0)


def test_no_more_is_taken_in_than_the_limit():
    """Reading ends at the byte that is too much, though the sender goes on."""
    endless = ({"type": "http.request", "body": b"x" * 50, "more_body": True} for _ in range(3))
    problem = asyncio.run(Place(Room(LIMITS)).read({}, coming(endless)))
    assert isinstance(problem, Problem)
    assert problem.status_code == 413


def test_a_sender_that_goes_away_leaves_nothing():
    """Half a body is no delivery."""
    room = Room(LIMITS)
    half = {"type": "http.request", "body": b"x" * 50, "more_body": True}
    assert read(room, [half, {"type": "http.disconnect"}]) is None
    assert (room.deliveries, room.bytes) == (0, 0)


def test_bytes_of_all_bodies_together_are_bounded():
    """Where two bodies do not fit, the second is told to come again, as soon as it grows too large."""
    room = Room(LIMITS)

    async def both() -> None:
        with Place(room) as first, Place(room) as second:
            assert await first.read({}, coming(chunks([b"x" * 90]))) == b"x" * 90
            assert await second.read({}, coming(chunks([b"x" * 60, b"x"]))) is BUSY
            assert room.bytes == 150

    asyncio.run(both())
    assert read(room, chunks([b"x" * 100])) == b"x" * 100


def test_deliveries_in_memory_are_bounded():
    """One more than may be is refused before any of it is read."""
    room = Room(LIMITS)

    async def one_too_many() -> None:
        with Place(room) as first, Place(room) as second, Place(room) as third:
            assert await first.read({}, coming(chunks([b"x"]))) == b"x"
            assert await second.read({}, coming(chunks([b"x"]))) == b"x"
            assert await third.read({}, coming([])) is BUSY

    asyncio.run(one_too_many())
    assert read(room, chunks([b"x"])) == b"x"
