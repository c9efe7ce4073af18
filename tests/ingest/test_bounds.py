"""What a source may be held to: addresses, and a rate."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest import sources
from ingest.bounds import Bound, network
from schema.errors import SourceError

if TYPE_CHECKING:
    from tests.ingest.conftest import Clock, Receiver


def deliver(receiver: Receiver, remote: str = "192.0.2.7", count: int = 1) -> list[httpx.Response]:
    async def post() -> list[httpx.Response]:
        transport = httpx.ASGITransport(receiver.app, client=(remote, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return [await client.post(receiver.path, content=b"{}") for _ in range(count)]

    return asyncio.run(post())


def test_a_source_delivers_from_its_networks_alone(receiver: Receiver) -> None:
    """From the next request on; nothing is recorded of others, and none who lacks the secret is told why."""
    path = receiver.folder / "sources.json"
    sources.allow(path, "main", ["192.0.2.0/24", "2001:db8::1"])

    allowed = [deliver(receiver, remote)[0].status_code for remote in ("192.0.2.7", "2001:db8::1", "::ffff:192.0.2.9")]
    refused = [deliver(receiver, remote)[0] for remote in ("192.0.3.7", "2001:db8::2", "no address", "")]

    assert allowed == [200] * 3
    assert [answer.status_code for answer in refused] == [403] * 4
    assert refused[0].json()["type"] == "urn:problem-type:simtrail:address-not-allowed"
    receiver.path += "x"
    assert deliver(receiver, "192.0.3.7")[0].status_code == 404
    assert len(receiver.events()) == 3
    sources.allow(path, "main", [])
    receiver.path = receiver.path[:-1]
    assert deliver(receiver, "192.0.3.7")[0].status_code == 200


def test_a_source_delivers_no_more_often_than_it_may(receiver: Receiver, clock: Clock) -> None:
    """A second's worth at once, then 429, which says when to try again; a second later as many again."""
    sources.limit(receiver.folder / "sources.json", "main", 3)

    first = deliver(receiver, count=5)
    clock.now += timedelta(seconds=1)
    second = deliver(receiver, count=5)

    for answers in (first, second):
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
        assert answers[-1].headers["retry-after"] == "1"
    assert len(receiver.events()) == 6
    sources.limit(receiver.folder / "sources.json", "main", 0)
    assert {answer.status_code for answer in deliver(receiver, count=20)} == {200}


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    """The rate goes on from there."""
    bound = Bound((), 1)
    assert bound.takes(100.0)
    assert not bound.takes(50.0)
    assert bound.takes(51.0)


@pytest.mark.parametrize("wrong", ["", "x", "192.0.2.7/24", "192.0.2.256", "::1/129"])
def test_what_is_no_network_is_refused(wrong: str) -> None:
    """Told as it was written, with examples."""
    with pytest.raises(SourceError, match="is not an address or a network"):
        network(wrong)


def test_bounds_that_can_not_be_are_refused(receiver: Receiver) -> None:
    """And change nothing."""
    path = receiver.folder / "sources.json"
    before = path.read_bytes()
    with pytest.raises(SourceError, match="there is no source 'other'"):
        sources.limit(path, "other", 1)
    with pytest.raises(SourceError, match="can't deliver -1 times a second"):
        sources.limit(path, "main", -1)
    assert path.read_bytes() == before
