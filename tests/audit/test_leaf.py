from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import leaf, merkle
from audit.leaf import Leaf
from schema import event
from schema.errors import LogError, ProofError
from schema.event import TOPIC, Delivery

DELIVERY = Delivery(
    "2026-03-02T09:00:01.000000Z", "main", "127.0.0.1", {"content-type": "application/json"}, b'{"a":1}\xff'
)
ROW = (258, TOPIC.encode(), event.encode(DELIVERY))

GOLDEN = bytes.fromhex(
    "73696d747261696c2d6c6561662f7631"
    "0000000000000102"
    "001b323032362d30332d30325430393a30303a30312e3030303030305a"
    "00046d61696e"
    "0010776562686f6f6b2e7265636569766564"
    "483166764f45127c59c4b0a1f012269af0c2256f6ec211084f8186c4d8ef3783"
    "401b32fb0fc6eb9e2056c3e828bdc6b64a832c1dcfabda1875ff8f82f20ab56c"
)


def test_the_bytes_of_a_leaf_are_pinned():
    """As docs/proof-format.md has them: a leaf made by any version since the first is these bytes."""
    assert leaf.encode(leaf.of(ROW)) == GOLDEN
    assert leaf.hash_of(ROW).hex() == "8bf5f04d405a5e3f34a5f092316b65bd77b32aebea6bc0ea2f454e14a79ff138"
    assert leaf.decode(GOLDEN) == leaf.of(ROW)


deliveries = st.builds(
    Delivery,
    received_at=st.text(max_size=30),
    source=st.text(max_size=30),
    remote=st.text(max_size=10),
    headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    body=st.binary(max_size=300),
)


@given(st.integers(0, (1 << 63) - 1), st.text(max_size=30), deliveries)
def test_the_hash_of_a_stored_event_is_that_of_its_leaf(position, topic, delivery):
    """The way that is taken for speed gives what the definition gives; and a leaf reads back as what it binds."""
    row = (position, topic.encode(), event.encode(delivery))
    found = leaf.of(row)
    assert leaf.hash_of(row) == merkle.leaf_hash(leaf.encode(found))
    assert leaf.decode(leaf.encode(found)) == found
    assert (found.position, found.topic, found.source) == (position, topic, delivery.source)


@given(st.binary(max_size=200) | st.binary(max_size=150).map(lambda data: leaf.LABEL + data))
def test_bytes_are_a_leaf_in_one_way_or_not_at_all(data):
    """Whatever is read as a leaf is encoded as the same bytes again."""
    try:
        found = leaf.decode(data)
    except ProofError:
        return
    assert leaf.encode(found) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOLDEN[:-1],
        GOLDEN + b"\x00",
        b"simtrail-leaf/v2" + GOLDEN[16:],
        GOLDEN[:26] + b"\xff" + GOLDEN[27:],
    ],
)
def test_other_bytes_are_no_leaf(data):
    """Cut off, with more behind, of another version, or with a text that is none."""
    with pytest.raises(ProofError):
        leaf.decode(data)


@pytest.mark.parametrize("state", [b"", b"\xc1", msgspec.msgpack.encode({"v": 1})])
def test_a_state_that_can_not_be_read_has_no_leaf(state):
    """It is damage to the log, as it is for everyone who reads it."""
    with pytest.raises(LogError, match="can't be read"):
        leaf.hash_of((1, TOPIC.encode(), state))


def test_a_state_of_a_later_version_has_no_leaf_yet():
    """What it binds is not known."""
    later = msgspec.msgpack.encode({**msgspec.msgpack.decode(ROW[2]), "v": 2})
    with pytest.raises(LogError, match=r"version 2.*upgrade"):
        leaf.hash_of((1, TOPIC.encode(), later))


def test_a_topic_that_is_no_text_has_no_leaf():
    """It was put there by somebody else."""
    with pytest.raises(LogError, match="position 1 is no UTF-8"):
        leaf.of((1, b"\xff", ROW[2]))


def test_a_text_that_has_no_room_is_refused():
    """Rather than cut, whichever way the leaf is made."""
    long = event.encode(Delivery("x" * 65_536, "main", "", {}, b""))
    with pytest.raises(LogError, match="65536 bytes has no room"):
        leaf.hash_of((1, TOPIC.encode(), long))
    with pytest.raises(LogError, match="65536 bytes has no room"):
        leaf.encode(Leaf(1, "x" * 65_536, "main", TOPIC, bytes(32), bytes(32)))
