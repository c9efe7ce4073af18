from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import event
from schema.errors import LogError
from schema.event import Delivery

DELIVERY = Delivery(
    "2026-03-02T09:00:01.000000Z", "main", "127.0.0.1", {"content-type": "application/json"}, b'{"a":1}\xff'
)

GOLDEN = bytes.fromhex(
    "86a17601"
    "ab72656365697665645f6174bb323032362d30332d30325430393a30303a30312e3030303030305a"
    "a6736f75726365a46d61696e"
    "a672656d6f7465a93132372e302e302e31"
    "a76865616465727381ac636f6e74656e742d74797065b06170706c69636174696f6e2f6a736f6e"
    "a4626f6479c4087b2261223a317dff",
)


HEADS = {
    "received_at": st.text(max_size=30),
    "source": st.text(max_size=30),
    "remote": st.text(max_size=30),
    "headers": st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
}
"""All of a delivery but its body."""


def test_the_stored_form_is_pinned():
    """An envelope written by any version since the first is these bytes, and reads back as the delivery."""
    assert event.encode(DELIVERY) == GOLDEN
    assert event.decode(GOLDEN) == DELIVERY


@given(
    st.builds(
        Delivery,
        **HEADS,
        body=st.binary(max_size=300),
    ),
)
def test_any_delivery_comes_back_whole(delivery):
    """Encoding loses nothing, whatever the bytes."""
    assert event.decode(event.encode(delivery)) == delivery


@given(
    st.builds(
        Delivery,
        **HEADS,
        body=st.binary(min_size=1, max_size=20).map(lambda some: some * 65_536),
    )
)
def test_what_stands_before_a_large_body_is_its_envelopes_front(delivery: Delivery):
    """The two together are the bytes of the whole."""
    assert event.front(delivery) + delivery.body == event.encode(delivery)


@pytest.mark.parametrize("state", [b"", b"\xc1", GOLDEN[:-1], msgspec.msgpack.encode({"v": 1})])
def test_a_damaged_envelope_is_the_logs_error(state):
    """An envelope is ours, so bytes that can't be one are damage to the log, not a reading."""
    with pytest.raises(LogError, match="can't be read"):
        event.decode(state)


def test_a_newer_envelope_is_not_guessed_at():
    """A later version's event asks for that version."""
    newer = msgspec.msgpack.encode({**msgspec.msgpack.decode(GOLDEN), "v": 2})
    with pytest.raises(LogError, match=r"version 2.*upgrade"):
        event.decode(newer)


def test_instants_are_utc_with_six_decimals():
    """Text order is time order, whatever the zone they were given in."""
    moscow = timezone(timedelta(hours=3))
    assert event.instant(datetime(2026, 5, 1, 3, 0, tzinfo=moscow)) == "2026-05-01T00:00:00.000000Z"


@given(
    st.integers(1, 2**37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.binary(min_size=10, max_size=10),
)
def test_ids_are_version_7_and_ordered_by_time(now, entropy):
    """RFC 9562 §5.7: the millisecond first, then version and variant in their places."""
    made = event.uuid7(now, lambda size: entropy[:size])
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == int(now.timestamp() * 1000)
    later = event.uuid7(now + timedelta(milliseconds=2), bytes)
    assert made < later
