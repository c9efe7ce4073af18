from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import seal_writer, seals
from audit.note import COSIGNATURE, Key
from audit.seal_tables import STATEMENTS
from audit.seals import Head
from schema.errors import SealError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WITNESS = Key("witness.example/w", COSIGNATURE, b"\x02" * 32)


def statements(folder, *, path="seals.db"):
    """A connection of somebody else, with the triggers in place."""
    return sqlite3.connect(folder / path, isolation_level=None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE anchors SET root = zeroblob(32)",
        "DELETE FROM anchors",
        "INSERT OR REPLACE INTO anchors SELECT size, zeroblob(32), position, stored_at FROM anchors LIMIT 1",
        "INSERT INTO anchors SELECT size - 1, root, position - 1, stored_at FROM anchors ORDER BY size DESC LIMIT 1",
        "UPDATE tiles SET hashes = zeroblob(length(hashes))",
        "UPDATE tiles SET hashes = substr(hashes, 1, 32) WHERE level = 0",
        "UPDATE tiles SET tile = 7",
        "DELETE FROM tiles",
        "INSERT OR REPLACE INTO tiles VALUES (0, 0, zeroblob(32))",
        "UPDATE signatures SET signature = x'00'",
        "DELETE FROM signatures",
        "INSERT OR REPLACE INTO signatures SELECT size, key, x'00', stored_at FROM signatures LIMIT 1",
        "UPDATE keys SET vkey = 'x'",
        "DELETE FROM keys",
        "INSERT OR REPLACE INTO keys SELECT 1, vkey, role, since_size, introduced, added_at FROM keys LIMIT 1",
        "UPDATE runs SET position = 7",
        "DELETE FROM runs",
        "INSERT OR REPLACE INTO runs VALUES (0, 7)",
        "UPDATE seals SET origin = 'x'",
        "DELETE FROM seals",
        "DELETE FROM refusals",
        "UPDATE refusals SET reason = NULL",
    ],
)
def test_the_seals_refuse_change_and_removal(made, statement):
    """Not even another program with the file open can take back a seal by an ordinary statement."""
    made.sealed(3, 2)
    made.seals.refuse("sealer", "a reason", now=NOW)
    other = statements(made.folder)
    before = list(other.iterdump())
    with pytest.raises(sqlite3.DatabaseError, match="the seals only grow"):
        other.execute(statement)
    assert list(other.iterdump()) == before
    other.close()


def test_commits_are_fsynced(made):
    """What is signed must never be forgotten."""
    connection = made.seals._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_head_is_stored_only_after_the_one_it_was_made_from(made):
    """Compare-and-swap: of two that go on from the same head, one is stored."""
    made.sealed(2)
    since = made.seals.last()
    one = Head(3, b"\x01" * 32, 3, "2026-05-01T00:00:00.000000Z")
    two = Head(4, b"\x02" * 32, 4, "2026-05-01T00:00:00.000000Z")
    tile = made.seals.tile(0, 0)
    assert made.seals.add(one, {(0, 0): tile + b"\x01" * 32}, [], since=since)
    assert not made.seals.add(two, {(0, 0): tile + b"\x02" * 64}, [], since=since)
    assert not made.seals.add(two, {(0, 0): tile + b"\x02" * 64}, [], since=None)
    assert made.seals.last() == one
    assert made.seals.tile(0, 0) == tile + b"\x01" * 32


def test_what_can_not_be_stored_whole_is_not_stored(made):
    """A head with tiles that do not fit what is kept leaves nothing behind."""
    made.sealed(2)
    since, tile = made.seals.last(), made.seals.tile(0, 0)
    with pytest.raises(SealError, match="never changed"):
        made.seals.add(Head(3, b"\x01" * 32, 3, "x"), {(0, 0): b"\x01" * 96}, [], since=since)
    assert (made.seals.last(), made.seals.tile(0, 0)) == (since, tile)


def test_a_signature_stays_as_it_first_was(made):
    """To sign again changes nothing."""
    made.sealed(2)
    note = made.seals.note(2)
    made.seals.add_signature(2, made.signer.key, "log", b"x" * 64, now=NOW)
    made.seals.add_signature(2, WITNESS, "witness", b"y" * 72, now=NOW)
    made.seals.add_signature(2, WITNESS, "witness", b"z" * 72, now=NOW)
    assert [each.signature for each in made.seals.note(2).signatures] == [note.signatures[0].signature, b"y" * 72]


def test_the_log_s_signature_comes_first_in_a_note(made):
    """Then those of other algorithms, then the witnesses', whatever came first."""
    made.receive(b"{}")
    other = Key(made.origin, 0xFA, b"key")
    made.sealed(1)
    made.seals.add_signature(2, WITNESS, "witness", b"y" * 72, now=NOW)
    made.seals.add_signature(2, other, "also", b"x", now=NOW)
    assert [known.role for known, _ in made.seals.signatures(2)] == ["log", "also", "witness"]


def test_only_anchors_that_are_signed_are_given_out(made):
    """A head that waits for its signature is no anchor."""
    made.sealed(2)
    made.seals.add(Head(3, b"\x01" * 32, 3, "x"), {}, [], since=made.seals.last())
    assert (made.seals.last().size, made.seals.last(signed=True).size) == (3, 2)
    assert made.seals.last().signed is False
    made.seals.add_signature(3, Key(made.origin, 0xFA, b"key"), "also", b"x", now=NOW)
    assert made.seals.last(signed=True).size == 2
    for size in (3, 4):
        with pytest.raises(SealError, match=f"no signed anchor of size {size}"):
            made.seals.note(size)


def test_heads_come_in_order_between_sizes(made):
    """Above one and up to another, ascending or descending."""
    made.sealed(2, 3, 4)
    sizes = [head.size for head in made.seals.heads(limit=10)]
    assert sizes == [2, 5, 9]
    assert [head.size for head in made.seals.heads(above=2, up_to=8, limit=10)] == [5]
    assert [head.size for head in made.seals.heads(descending=True, limit=2)] == [9, 5]
    assert [head.position for head in made.seals.heads(limit=10)] == sizes


def test_the_largest_anchor_that_a_witness_cosigned_is_found(made):
    """Of any witness, or of one."""
    made.sealed(2, 3, 4)
    assert made.seals.cosigned() is None
    other = Key("other.example/w", COSIGNATURE, b"\x03" * 32)
    made.seals.add_signature(5, WITNESS, "witness", b"y" * 72, now=NOW)
    made.seals.add_signature(2, other, "witness", b"y" * 72, now=NOW)
    assert made.seals.cosigned().size == 5
    assert made.seals.cosigned(above=5) is None
    assert made.seals.cosigned(key=other).size == 2
    assert made.seals.cosigned(key=made.signer.key) is None


def test_a_refusal_stands_until_all_is_well_again(made):
    """Each finder's own, told once for each change."""
    made.sealed(2)
    assert made.seals.refusals() == []
    for _ in range(2):
        made.seals.refuse("sealer", "the log is another", now=NOW)
    made.seals.refuse("witness.example/w", "it was put back", now=NOW)
    assert [(each.finder, each.reason, each.size) for each in made.seals.refusals()] == [
        ("sealer", "the log is another", 2),
        ("witness.example/w", "it was put back", 2),
    ]
    made.seals.refuse("sealer", None, now=NOW)
    assert [each.finder for each in made.seals.refusals()] == ["witness.example/w"]
    assert made.seals._connection.execute("SELECT count(*) FROM refusals").fetchone() == (3,)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_leaves_are_found_by_position_whatever_positions_skip(tmp_path_factory, steps):
    """Positions may have gaps, as ids do where batches were rolled back; leaves have none."""
    path = tmp_path_factory.mktemp("seals") / "seals.db"
    positions = [sum(steps[: n + 1]) for n in range(len(steps))]
    seal_writer.create(path, origin="x.example", key=Key("x.example", 1, b"\x01" * 32), now=NOW)
    runs = [(0, positions[0])] + [
        (leaf, after) for leaf, (before, after) in enumerate(pairwise(positions), 1) if after != before + 1
    ]
    with seal_writer.open_to_write(path) as writer:
        head = Head(len(positions), b"\x01" * 32, positions[-1], "x")
        assert writer.add(head, {}, runs, since=None)
        for position in range(positions[-1] + 3):
            expected = positions.index(position) if position in positions else None
            assert writer.leaf_at(position) == expected
            assert writer.leaves_before(position) == sum(each < position for each in positions)


def test_seals_are_never_made_anew(made):
    """A file that is there is kept, whatever is in it."""
    with pytest.raises(SealError, match="never made anew"):
        seal_writer.create(made.folder / "seals.db", origin="x", key=made.signer.key, now=NOW)


def test_half_made_seals_do_not_count(tmp_path, monkeypatch, made):
    """A crash while they are made leaves nothing at their place, and the next start makes them."""
    path = tmp_path / "new.db"
    with monkeypatch.context() as patched:
        patched.setattr(seal_writer, "STATEMENTS", (*STATEMENTS, "SELECT fault()"))
        with pytest.raises(SealError, match="can't be made"):
            seal_writer.create(path, origin="x", key=made.signer.key, now=NOW)
    assert not path.exists()
    seal_writer.create(path, origin="x", key=made.signer.key, now=NOW)
    with seals.open_to_read(path) as opened:
        assert opened.origin == "x"


def test_what_can_not_be_opened_or_read_says_why(tmp_path, made):
    """No seals, no database, or seals of a later version."""
    for opener in (seals.open_to_read, seal_writer.open_to_write):
        with pytest.raises(SealError, match="there are no seals"):
            opener(tmp_path / "none.db")
        (tmp_path / "odd.db").write_bytes(b"no database" * 500)
        with pytest.raises(SealError, match="not a database"):
            opener(tmp_path / "odd.db")
    made.tamper("seals.db", "UPDATE seals SET format = 1")
    made.close()
    other = statements(made.folder)
    other.execute("UPDATE seals SET format = 2")
    other.close()
    with pytest.raises(SealError, match=r"format 2, this simtrail knows 1: upgrade"):
        seals.open_to_read(made.folder / "seals.db")


def test_a_reader_can_not_write(made):
    """Everyone but the one who seals opens the file read-only."""
    with seals.open_to_read(made.folder / "seals.db") as reader:
        assert type(reader) is seals.Seals
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("INSERT INTO runs VALUES (9, 9)")
