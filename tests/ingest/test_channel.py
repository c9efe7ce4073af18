"""The channel: what is said on it is understood, however it is cut up on its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import channel
from ingest.channel import Behind, Group, Groups, Kept, NotOpened, Opened, Refused, Said, Sayings

GROUPS = st.lists(
    st.builds(Group, st.integers(0, 2**40), st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)), max_size=8
)

SAYINGS = st.lists(
    st.one_of(
        st.just(Opened()),
        st.builds(NotOpened, st.text(), st.text()),
        st.builds(Kept, st.lists(st.integers(1, 2**60), max_size=20), st.floats(0, 100)),
        st.builds(Refused, st.integers(0, 1000), st.text(), st.booleans()),
        st.builds(Behind, st.text()),
    ),
    max_size=8,
)


@given(GROUPS, st.integers(1, 40))
def test_groups_come_whole_in_any_pieces(groups: list[Group], size: int):
    """Each once and in order, as soon as its last byte is there."""
    sent = b"".join(channel.group(group.begin, group.lengths) for group in groups)
    come, got = Groups(), []
    for at in range(0, len(sent), size):
        come.add(sent[at : at + size])
        got += list(come.whole())
    assert got == groups


@given(SAYINGS, st.integers(1, 40))
def test_sayings_come_whole_in_any_pieces(sayings: list[Said], size: int):
    """Each once and in order, as soon as its last byte is there."""
    sent = b"".join(map(channel.said, sayings))
    come, got = Sayings(), []
    for at in range(0, len(sent), size):
        come.add(sent[at : at + size])
        got += list(come.whole())
    assert got == sayings


@pytest.mark.parametrize("kind", [Groups, Sayings])
def test_a_part_is_nothing_yet(kind: type[Groups | Sayings]):
    """Neither of the one nor of the other."""
    come = kind()
    come.add(b"\0\0")
    assert list(come.whole()) == []


def test_a_saying_that_could_not_be_dealt_with_does_not_come_again():
    """It would be taken for the answer to whoever is next."""
    come = Sayings()
    come.add(channel.said(Kept([1], 0)) + channel.said(Kept([2], 0)))
    for _ in come.whole():
        break
    assert list(come.whole()) == [Kept([2], 0)]
