from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit import delimited
from audit.extract import Extract, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from audit.extract import Batch

FIELDS = (Field("n", "integer", required=True), Field("text", "string", required=False))

RUN_BY_A_SPREADSHEET = re.compile("[=+\\-@\t\r\n\0\uff1d\uff0b\uff0d\uff20]")

SIGNED = re.compile(r"[+-][0-9]+")

TEXTS = st.none() | st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", *"=+-@\t\r\n'\"\0,;\uff1d\uff0b\uff0d\uff20", "''", "+7", "-1.5", " ="]),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    ),
)


def written(texts: Sequence[str | None]) -> bytes:
    """The file of a table of SQLite that holds these texts."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE t ("n" INTEGER NOT NULL, "text" TEXT) STRICT')
        connection.executemany("INSERT INTO t VALUES (?, ?)", enumerate(texts, -1))

        def select(expressions: Sequence[str]) -> Iterator[Batch]:
            cursor = connection.execute(f"SELECT {', '.join(expressions)} FROM t ORDER BY n")
            while batch := cursor.fetchmany(2):
                yield batch

        extract = Extract("t", FIELDS, ("n",), len(texts), None, None, select)
        chunks = list(delimited.write(extract, Path()))
    assert sum(chunk.rows for chunk in chunks) == len(texts)
    return b"".join(chunk.data for chunk in chunks)


def cells(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def text_of(cell: str) -> str | None:
    """What was written, as the rule says: by who knows nothing of how."""
    return None if cell == "" else cell.removeprefix("'")


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=6))
@example(["=1", "+1", "-1", "@a", "\t", "\r", "\n", "\uff1d", "'", "", None])
@example(["\0=1"])
def test_no_cell_is_run_and_each_text_can_be_had_back(texts: list[str | None]) -> None:
    """No cell begins as a formula does, a sign with digits alone apart; the rule gives each text back, and no value."""
    header, *rows = cells(written(texts))

    assert header == ["n", "text"]
    assert [text_of(text) for _, text in rows] == texts
    for _, text in rows:
        assert not RUN_BY_A_SPREADSHEET.match(text) or SIGNED.fullmatch(text)


def test_a_telephone_number_stays_as_it_is() -> None:
    """A plus and digits compute nothing: a number can be searched and joined as it stands."""
    assert cells(written(["+79001234567"]))[1][1] == "+79001234567"
    assert cells(written(["+7 900 123"]))[1][1] == "'+7 900 123"
    assert cells(written(["-5", "-5.2", "+", "-"]))[1:] == [["-1", "-5"], ["0", "'-5.2"], ["1", "'+"], ["2", "'-"]]


def test_numbers_are_numbers() -> None:
    """A negative number of a column of numbers is written as it is."""
    assert cells(written(["a"]))[1][0] == "-1"


def test_the_file_is_as_rfc_4180_has_it() -> None:
    """Comma, CR LF after each line, quotes doubled, UTF-8 without a mark; a header even without rows."""
    assert written([]) == b"n,text\r\n"
    assert written(['é"x', "a,b"]) == 'n,text\r\n-1,"é""x"\r\n0,"a,b"\r\n'.encode()


@settings(deadline=None, max_examples=30)
@given(st.lists(TEXTS.filter(lambda text: text is None or "\0" not in text), min_size=1, max_size=4))
def test_sql_gives_each_text_back(texts: list[str | None]) -> None:
    """The expression that DuckDB is given undoes the rule on every cell."""
    _, *rows = cells(written(texts))
    with closing(duckdb.connect(":memory:")) as connection:
        expression = delimited.text("c")
        back = [
            connection.execute(f"SELECT {expression} FROM (SELECT CAST(? AS VARCHAR) AS c)", [cell or None]).fetchone()
            for _, cell in rows
        ]
    assert [row and row[0] for row in back] == texts
