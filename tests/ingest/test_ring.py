"""The ring: what is put stays as it is until it is taken away."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from mmap import PAGESIZE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ring import Ring, mapped


@given(st.lists(st.one_of(st.none(), st.integers(1, PAGESIZE)), max_size=60))
def test_what_is_in_it_stays_as_it_was_put(steps: list[int | None]):
    """Whatever is put beside it and taken before it, as the other process reads it; and there is room where it says so."""
    with closing(Ring(PAGESIZE)) as ring:
        seen = mapped(ring.descriptor)
        inside: deque[tuple[int, bytes]] = deque()
        for number, size in enumerate(steps):
            if size is None:
                if inside:
                    ring.take()
                    inside.popleft()
            elif size <= ring.room():
                content = bytes([number % 251 + 1]) * size
                inside.append((ring.put([content[: size // 2], content[size // 2 :]], size), content))
            for begin, content in inside:
                assert seen[begin : begin + len(content)] == content
        while inside:
            ring.take()
            inside.popleft()
        assert ring.room() == PAGESIZE
        seen.release()


def test_little_of_it_is_in_use_where_little_waits():
    """What comes next lies in front again as soon as there is room: memory that was just written."""
    with closing(Ring(16 * PAGESIZE)) as ring:
        begins = []
        for _ in range(100):
            begins.append(ring.put([b"x" * 100], 100))
            if len(begins) > 1:
                ring.take()
        assert max(begins) == 100


@pytest.mark.parametrize("size", [PAGESIZE, 3 * PAGESIZE])
def test_one_may_fill_it(size: int):
    """To the last byte; then there is no room."""
    with closing(Ring(size)) as ring:
        assert ring.put([b"x" * size], size) == 0
        assert ring.room() == 0
        ring.take()
        assert ring.room() == size
