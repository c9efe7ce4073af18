from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schema.memo import SCALAR_BYTES, SHAPE_CHARACTERS, SHAPE_KEYS, Memo, keys_fit, scalar_fits


def test_a_memo_asks_once():
    """The function is called once for each key that fits."""
    asked: list[int] = []

    def read(key: int) -> int:
        asked.append(key)
        return key + 1

    memo = Memo(read, lambda key: key < 10)
    assert [memo[1], memo[1], memo[11], memo[11]] == [2, 2, 12, 12]
    assert asked == [1, 11, 11]


@given(st.lists(st.integers(0, 20)))
def test_a_memo_never_outgrows_its_bounds(keys: list[int]):
    """However many keys are asked for, no more than its entries are kept, and the answers are right."""
    memo: Memo[int, int] = Memo(lambda key: -key, lambda _: True, entries=5)
    for key in keys:
        assert memo[key] == -key
        assert len(memo) <= 5


def test_a_senders_megabyte_is_not_kept():
    """Large texts, huge numbers and large objects don't fit."""
    assert scalar_fits("8970100000000000013")
    assert not scalar_fits("x" * SCALAR_BYTES)
    assert not scalar_fits(10**4000)
    assert keys_fit(("id", "iccid"))
    assert not keys_fit(tuple(map(str, range(SHAPE_KEYS + 1))))
    assert not keys_fit(("x" * (SHAPE_CHARACTERS + 1),))
