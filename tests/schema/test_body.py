from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.body import MAX_DEPTH, STEPS_AT_ONCE, NotJson, not_json, parse


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" {} \n", {}),
        (b"1.10", Decimal("1.10")),
        (b"1e400", Decimal("1E+400")),
        (b"-0", 0),
        (b"8970100000000000013", 8970100000000000013),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"),
        (b'{"_type_":"uuid_hex","_data_":"x"}', {"_type_": "uuid_hex", "_data_": "x"}),
        (b"9" * 4000, int("9" * 4000)),
    ],
)
def test_json_is_read_exactly(body, value):
    """Numbers keep every digit, and nothing in a body means more than JSON says."""
    found, anomalies = parse(body)
    assert (found, anomalies) == (value, ())
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"\xef\xbb\xbf", "the body is empty"),
        (b" ", "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b"Infinity", "not JSON"),
        (b'{"a":1', "not JSON"),
        (b"{} {}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"01", "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b'"\x00"', "not JSON"),
        (b"a=1&b=2", "not JSON"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8: byte 6"),
        (b'"\xed\xa0\x80"', "not UTF-8: byte 1"),
        ("{}".encode("utf-16"), "not UTF-8: byte 0"),
        (b"9" * 5000, "a whole number has more digits than are read"),
        (b"[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_not_json_has_a_reason(body, reason):
    """Bytes that RFC 8259 refuses, or that nest too deep, are refused in words."""
    given_reason = not_json(body)
    assert given_reason is not None
    assert given_reason.startswith(reason)
    with pytest.raises(NotJson, match=reason):
        parse(body)


def test_a_byte_order_mark_is_skipped_and_named():
    """One mark before the JSON does no harm."""
    assert parse(b"\xef\xbb\xbf{}") == ({}, ("byte_order_mark",))


def test_a_far_exponent_is_kept_as_text():
    """No arithmetic is done with an exponent of seven digits: the number's text is kept, and named."""
    assert parse(b"[1e999999,1e1000000,2.5]") == (
        [Decimal("1E+999999"), "1e1000000", Decimal("2.5")],
        ("number_as_text",),
    )
    assert parse(b"1E-00000000001") == (Decimal("0.1"), ())
    assert parse(b"1e99999999999999999999999")[0] == "1e99999999999999999999999"
    assert not_json(b"[1e1000000") is not None


def nested(depth: int, *, objects: bool, inside: str) -> bytes:
    opening, closing = ('{"a":', "}") if objects else ("[", "]")
    return (opening * depth + inside + closing * depth).encode()


@given(st.integers(1, MAX_DEPTH), st.booleans())
def test_depth_up_to_the_limit_is_followed(depth: int, objects: bool):  # noqa: FBT001
    """Up to the limit arrays and objects are read."""
    assert not_json(nested(depth, objects=objects, inside="1")) is None


@given(
    st.integers(MAX_DEPTH + 1, 3 * MAX_DEPTH), st.booleans(), st.sampled_from(["1", "", '"]]"', '"\\"]"', '{"a":[]}'])
)
def test_depth_beyond_the_limit_is_refused(depth: int, objects: bool, inside: str):  # noqa: FBT001
    """Beyond it they are not, whatever the strings among them look like, even under a key that comes again."""
    deep = nested(depth, objects=objects, inside=inside if inside or not objects else "1")
    reason = f"nested deeper than {MAX_DEPTH} levels"
    assert not_json(deep) == reason
    assert not_json(b'{"a":' + deep + b',"a":1}') == reason
    assert not_json(b'["\\\\","]]]]","\\"]",' + deep + b"]") == reason


@given(st.lists(st.text('[]{}\\"ab', max_size=6), min_size=40, max_size=80))
def test_brackets_in_strings_are_no_depth(texts: list[str]):
    """A broad body whose strings are full of brackets, quotes and escapes is not deep."""
    body = json.dumps([{"a": [text], text: "[[["} for text in texts]).encode()
    assert body.count(b"[") > MAX_DEPTH
    assert not_json(body) is None


def test_the_verdict_does_not_hang_on_the_stack():
    """A body is judged the same from a deep call as from a shallow one."""
    body = nested(MAX_DEPTH, objects=True, inside="1")

    def call(depth: int) -> str | None:
        return call(depth - 1) if depth else not_json(body)

    assert call(sys.getrecursionlimit() // 2) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(body: bytes):
    """Whatever the bytes, there is a value or a reason."""
    reason = not_json(body)
    if reason is None:
        parse(body)
    else:
        assert reason


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=200,
    ),
    st.booleans(),
)
def test_what_json_can_say_is_read(value, ascii_only: bool):  # noqa: FBT001
    """Everything that the standard library writes as JSON is read as what it was."""
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == (value, ())


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_is_counted_on_behind_any_number_of_brackets(levels: int):
    """They are counted in pieces, and the depth goes on from one piece to the next."""
    opened = levels // 2
    few = b"[],{}," * (STEPS_AT_ONCE // 4)
    body = b"[" * opened + few + b"[" * (levels - opened) + b'"]"' + b"]" * levels
    reason = not_json(body)
    assert reason == (None if levels == MAX_DEPTH else f"nested deeper than {MAX_DEPTH} levels")
