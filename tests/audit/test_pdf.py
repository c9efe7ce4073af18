"""The small PDF."""

from __future__ import annotations

import re

from audit import pdf


def test_the_table_finds_every_object() -> None:
    """The cross-reference table gives each object's place, and the end gives the table's (ISO 32000-1, 7.5.4 and 7.5.5)."""
    document = pdf.document(["one", "two"])

    (at,) = re.findall(rb"startxref\n(\d+)\n%%EOF\n\Z", document)
    table = document[int(at) :].splitlines()
    assert table[0] == b"xref"
    places = [int(line[:10]) for line in table[2:] if line.endswith(b" n ")]
    assert table[1] == b"0 %d" % (len(places) + 1)
    assert len(places) == 5
    for number, place in enumerate(places, 1):
        assert document[place:].startswith(b"%d 0 obj\n" % number)


def test_the_stream_is_as_long_as_it_says() -> None:
    """The length of the page's content is that of what it holds (7.3.8)."""
    ((length, content),) = re.findall(rb"<</Length (\d+)>>stream\n(.*)\nendstream", pdf.document(["x"]), re.DOTALL)

    assert len(content) == int(length)


def test_lines_are_drawn_whatever_is_in_them() -> None:
    """Brackets and backslashes are drawn as they are, and what Helvetica lacks as question marks (7.3.4.2)."""
    document = pdf.document(["a (b) \\c", "Счёт 7"])

    assert rb"(a \(b\) \\c) Tj" in document
    assert b"(???? 7) Tj" in document


def test_the_same_lines_give_the_same_bytes() -> None:
    """A bill's file is the same each time it is sent, and another's is another."""
    assert pdf.document(["a"]) == pdf.document(["a"])
    assert pdf.document(["a"]) != pdf.document(["b"])
