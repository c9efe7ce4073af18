from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import leaf, merkle, proof
from audit import note as notes
from audit.note import COSIGNATURE, Key
from audit.proof import Receipt
from schema import event
from schema.errors import NotSealed, ProofError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WITNESS = Key("witness.example/w", COSIGNATURE, b"\x02" * 32)


def test_every_event_has_a_receipt_that_anyone_can_check(made):
    """With the log's public key and the text alone, under an anchor of any later size."""
    made.sealed(1, 255, 1, 300, 2)
    for position in (1, 2, 255, 256, 257, 258, 557, 559):
        text = str(proof.receipt(made.log, made.seals, position))
        found, anchor, signatures = proof.parse(text).verified([notes.parse_key(made.signer.key.vkey)])
        delivery = made.log.at(position).delivery
        assert (found.position, found.received_at, found.source) == (position, delivery.received_at, delivery.source)
        assert found.body_sha256 == leaf.of((position, found.topic.encode(), event.encode(delivery))).body_sha256
        assert (anchor.origin, anchor.size) == (made.origin, 559)
        assert [key for key, _ in signatures] == [made.signer.key]


def test_a_receipt_is_a_tlog_proof(made):
    """C2SP tlog-proof v1, line by line; the leaf is its extra data, its index counts from zero."""
    made.sealed(3)
    lines = str(proof.receipt(made.log, made.seals, 3)).split("\n")
    row = made.log.stored_after(2)[0]
    encoded = leaf.encode(leaf.of(row))
    left = merkle.node_hash(*(leaf.hash_of(each) for each in made.log.stored_after(0)[:2]))
    assert lines[:5] == [
        "c2sp.org/tlog-proof@v1",
        f"extra {base64.b64encode(encoded).decode()}",
        "index 2",
        base64.b64encode(left).decode(),
        "",
    ]
    assert "\n".join(lines[5:]) == str(made.seals.note(3))


def test_an_event_waits_for_its_receipt(made):
    """Recorded and not sealed is another answer than not recorded."""
    made.receive_many(1)
    with pytest.raises(NotSealed, match="position 1 yet"):
        proof.receipt(made.log, made.seals, 1)
    made.seal()
    made.receive_many(1)
    assert proof.receipt(made.log, made.seals, 1).index == 0
    with pytest.raises(NotSealed, match="position 2 yet"):
        proof.receipt(made.log, made.seals, 2)
    for position in (0, 3, -1):
        with pytest.raises(ProofError, match="no event was sealed there") as caught:
            proof.receipt(made.log, made.seals, position)
        assert not isinstance(caught.value, NotSealed)


def test_an_event_put_where_none_was_sealed_waits_for_nothing(made):
    """It is not sealed in a second, nor ever."""
    made.receive_many(3)
    made.tamper("log.db", "UPDATE stored_events SET rowid = 9 WHERE rowid = 3")
    made.seal()
    made.tamper("log.db", "UPDATE stored_events SET rowid = 3 WHERE rowid = 9")
    with pytest.raises(ProofError, match="no event was sealed there") as caught:
        proof.receipt(made.log, made.seals, 3)
    assert not isinstance(caught.value, NotSealed)


def test_a_receipt_is_under_the_newest_cosigned_anchor(made):
    """Most can be said for it; an event that it does not hold gets the newest."""
    made.sealed(2, 2, 2)
    made.seals.add_signature(4, WITNESS, "witness", b"y" * 72, now=NOW)
    assert [proof.parse(str(proof.receipt(made.log, made.seals, n))).note.text.split("\n")[1] for n in (1, 4, 5)] == [
        "4",
        "4",
        "6",
    ]


def test_no_receipt_is_given_for_what_was_changed(made):
    """An event that was changed, removed, or put where none was sealed, or tiles that were."""
    made.sealed(300)
    made.tamper(
        "log.db",
        "UPDATE stored_events SET state = (SELECT state FROM stored_events WHERE rowid = 5) WHERE rowid = 6",
        "DELETE FROM stored_events WHERE rowid = 8",
    )
    with pytest.raises(ProofError, match="does not show position 6"):
        proof.receipt(made.log, made.seals, 6)
    with pytest.raises(ProofError, match="not in the log any more"):
        proof.receipt(made.log, made.seals, 8)
    assert proof.receipt(made.log, made.seals, 7).index == 6
    made.tamper("seals.db", "DELETE FROM tiles WHERE level = 0 AND tile = 1")
    with pytest.raises(Exception, match=r"seals\.db has a gap"):
        proof.receipt(made.log, made.seals, 7)


def test_a_receipt_with_any_byte_changed_proves_nothing(made):
    """Each byte of the text, one at a time: none of them can be another."""
    made.sealed(5)
    text = str(proof.receipt(made.log, made.seals, 2)).encode()
    proof.parse(text.decode()).verified([made.signer.key])
    for at in range(len(text)):
        changed = bytes([*text[:at], text[at] ^ 1, *text[at + 1 :]])
        with pytest.raises(ProofError):
            proof.parse(changed.decode("utf-8", "replace")).verified([made.signer.key])


def test_a_receipt_needs_the_leaf_and_a_key(made):
    """The format may leave the leaf out; then it has to come from elsewhere."""
    made.sealed(2)
    full = proof.receipt(made.log, made.seals, 1)
    bare = proof.parse(str(Receipt(None, full.index, full.path, full.note)))
    assert bare.leaf is None
    with pytest.raises(ProofError, match="does not have the leaf"):
        bare.verified([made.signer.key])
    with pytest.raises(ProofError, match="not signed by a known key"):
        full.verified([WITNESS])


NOTE = notes.Note(
    "a.example\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", (notes.Signature("a", b"1234", b"5"),)
)


@given(
    st.none() | st.binary(max_size=40),
    st.integers(0, (1 << 63) - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
)
def test_a_receipt_reads_back_from_its_text(data, index, path):
    """With and without a leaf, with any path."""
    made = Receipt(data, index, path, NOTE)
    assert proof.parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with"),
        ("c2sp.org/tlog-proof@v2\nindex 0\n\n", "begins with"),
        ("c2sp.org/tlog-proof@v1\n\n", "names the index"),
        ("c2sp.org/tlog-proof@v1\nindex 01\n\n", "no number"),
        ("c2sp.org/tlog-proof@v1\nindex -1\n\n", "no number"),
        ("c2sp.org/tlog-proof@v1\nextra *\nindex 0\n\n", "no base64"),
        ("c2sp.org/tlog-proof@v1\nindex 0\nextra AA==\n\n", "no base64"),
        ("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n", "32 bytes"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n" + "A" * 43 + "=\n" * 1 + ("A" * 43 + "=\n") * 63 + "\n", "at most 63"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n", "begins with"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n\nno note\n", "a note is"),
    ],
)
def test_what_is_no_receipt_is_refused(text, told):
    """Each is one step away from one."""
    with pytest.raises(ProofError, match=told):
        proof.parse(text)
