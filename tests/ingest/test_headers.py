from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.headers import KEPT, kept, secret_of
from ingest.limits import HEADER_CHARS


def test_only_headers_of_the_list_are_kept():
    """Credentials and cookies never reach the log; what the body is, and who sent it when, does."""
    headers = [(name, b"text") for name in KEPT]
    refused = [(name, b"text") for name in (b"authorization", b"cookie", b"referer", b"proxy-authorization", b"host")]
    assert kept(headers + refused) == dict.fromkeys(KEPT.values(), "text")
    assert not {"authorization", "cookie", "referer", "proxy-authorization"} & set(KEPT.values())


@given(st.lists(st.tuples(st.sampled_from(sorted(KEPT)), st.binary(max_size=2 * HEADER_CHARS))))
def test_any_value_becomes_harmless_text_of_bounded_length(headers: list[tuple[bytes, bytes]]):
    """Whatever bytes a header has, what is kept can be shown, stored and encoded."""
    for text in kept(headers).values():
        assert text.isprintable()
        assert len(text) <= HEADER_CHARS
        text.encode()


def test_a_long_value_is_cut():
    """Whether it comes as one header or as many, a header costs the log a bounded number of bytes."""
    long = b"x" * (HEADER_CHARS + 1)
    assert kept([(b"user-agent", long), (b"user-agent", long)]) == {"user-agent": "x" * HEADER_CHARS}


def test_text_is_latin_1_and_its_controls_are_replaced():
    """NUL, escape and line breaks can't reach a terminal or a page; a tab is a space."""
    value = b"caf\xe9\x00\x1b[31m\r\n\x7f\x9b\tx"
    assert kept([(b"user-agent", value)]) == {"user-agent": "café\ufffd\ufffd[31m\ufffd\ufffd\ufffd\ufffd x"}


def test_repeated_headers_are_joined():
    """Each proxy may add a line of its own; together they are one value (RFC 9110 §5.3)."""
    assert kept([(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-for", b"192.0.2.2")]) == {
        "x-forwarded-for": "192.0.2.1, 192.0.2.2",
    }


def basic(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


@pytest.mark.parametrize(
    ("authorization", "secret"),
    [
        (b"Bearer s3cret", "s3cret"),
        (b"bearer  s3cret ", "s3cret"),
        (b"BEARER s3cret", "s3cret"),
        (basic(b"main:s3cret"), "s3cret"),
        (basic(b":s3cret"), "s3cret"),
        (basic(b"whoever:s3:cret"), "s3:cret"),
        (basic("main:söcret".encode()), "söcret"),
        (basic(b"s3cret"), ""),
        (basic(b"main:\xff"), ""),
        (b"Basic ***", ""),
        (b"Basic", ""),
        (b"Digest s3cret", ""),
        (b"s3cret", ""),
        (b"", ""),
    ],
)
def test_the_secret_is_the_password_or_the_token(authorization: bytes, secret: str):
    """Basic gives its password whatever the user name, Bearer its token; anything else gives none."""
    assert secret_of([(b"authorization", authorization)]) == secret


def test_no_authorization_is_no_secret():
    """A request without the header has the secret that nobody has."""
    assert secret_of([(b"content-type", b"application/json")]) == ""


@given(st.binary())
def test_any_authorization_gives_text(authorization: bytes):
    """No header can make the reading of it fail."""
    secret_of([(b"authorization", authorization)])
    secret_of([(b"authorization", b"Basic " + authorization)])
