from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import keys, leaf, merkle, seals, tiles, verification, walk
from audit import note as notes
from audit.keys import FileSigner
from audit.note import COSIGNATURE
from audit.walk import Progress

NOW = datetime(2026, 5, 1, tzinfo=UTC)
COPY = (
    "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)"
    " SELECT {at}, 'x', 1, topic, state FROM stored_events WHERE rowid = 5"
)
SWAP = [
    "UPDATE stored_events SET rowid = -1 WHERE rowid = :a",
    "UPDATE stored_events SET rowid = :a WHERE rowid = :b",
    "UPDATE stored_events SET rowid = :b WHERE rowid = -1",
]


def kinds(report):
    return [(finding.kind, finding.first, finding.last) for finding in report.findings]


def test_a_log_as_it_was_sealed_is_sound(made):
    """All leaves, anchors and signatures are counted; what came after the last anchor is told."""
    made.sealed(1, 255, 1, 300, 2)
    made.receive_many(3)
    report = made.verify()
    assert report.sound
    assert (report.anchored, report.position, report.unsealed, report.skipped, report.resumed_from) == (
        559,
        559,
        3,
        0,
        0,
    )
    counts = report.counts
    assert (counts.leaves, counts.anchors, counts.signatures, counts.cosignatures) == (559, 5, 5, 0)


def test_an_installation_without_anchors_is_sound(made):
    """There is nothing to hold the log against yet."""
    made.receive_many(2)
    report = made.verify()
    assert (report.sound, report.anchored, report.unsealed) == (True, 0, 2)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE stored_events SET state = substr(state, 1, length(state) - 1) || x'41' WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET state = x'c1' WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET state = CAST(state AS TEXT) WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET state = 7 WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET topic = CAST(topic AS BLOB) WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET topic = CAST(x'ff' AS TEXT) WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET topic = 'other' WHERE rowid = 7"], [("changed", 7, 7)]),
        (["UPDATE stored_events SET state = (SELECT state FROM stored_events WHERE rowid = 1) WHERE rowid IN (2, 300, 301)"],
         [("changed", 2, 2), ("changed", 300, 301)]),
        (["DELETE FROM stored_events WHERE rowid = 1"], [("removed", 1, 1)]),
        (["DELETE FROM stored_events WHERE rowid = 256"], [("removed", 256, 256)]),
        (["DELETE FROM stored_events WHERE rowid BETWEEN 200 AND 500"], [("removed", 200, 500)]),
        (["DELETE FROM stored_events WHERE rowid > 400"], [("removed", 401, 559)]),
        (["DELETE FROM stored_events"], [("removed", 1, 559)]),
        ([COPY.format(at=0)], [("added", 0, 0)]),
        ([COPY.format(at=-9)], [("added", -9, -9)]),
    ],
    ids=["edit", "damage", "text", "number", "blob", "bytes", "topic", "copy", "first", "in the middle", "many", "the end", "all", "before", "long before"],
)  # fmt: skip
def test_whatever_was_done_to_the_log_is_found_where_it_was_done(made, statements, found):
    """Edits, removals and insertions, with the triggers dropped: each finding names the positions."""
    made.sealed(1, 255, 1, 300, 2).tamper("log.db", *statements)
    report = made.verify()
    assert kinds(report) == found
    assert not report.sound
    assert str(report.findings[0]).startswith(f"position{'s' * (found[0][1] != found[0][2])} {found[0][1]}")


def test_events_that_changed_places_are_found(made):
    """Two events swapped: both positions."""
    made.sealed(300, 10)
    made.tamper("log.db", *(each.replace(":a", "20").replace(":b", "290") for each in SWAP))
    assert kinds(made.verify()) == [("changed", 20, 20), ("changed", 290, 290)]


def test_an_event_slipped_in_between_is_found_by_the_first_position(made):
    """Those behind it were moved on by one to make room, so all of them differ from there on."""
    made.sealed(300)
    made.tamper(
        "log.db",
        "UPDATE stored_events SET rowid = -rowid WHERE rowid >= 100",
        "UPDATE stored_events SET rowid = 1 - rowid WHERE rowid < 0",
        COPY.format(at=100),
    )
    assert kinds(made.verify()) == [("changed", 100, 300)]


def test_an_event_removed_and_the_gap_closed_is_found_by_the_first_position(made):
    """Those behind it moved up by one; the last is missing."""
    made.sealed(300)
    made.tamper(
        "log.db",
        "DELETE FROM stored_events WHERE rowid = 100",
        "UPDATE stored_events SET rowid = -rowid WHERE rowid > 100",
        "UPDATE stored_events SET rowid = -rowid - 1 WHERE rowid < 0",
    )
    assert kinds(made.verify()) == [("changed", 100, 299), ("removed", 300, 300)]


def test_what_is_appended_behind_the_last_anchor_is_only_unsealed(made):
    """It is sealed next; nothing tells it from an event."""
    made.sealed(5)
    made.receive_many(2)
    assert (made.verify().sound, made.verify().unsealed) == (True, 2)


def leaf_tile(installation, index, at):
    tile = bytearray(installation.seals.tile(0, index))
    tile[32 * at] ^= 1
    return bytes(tile)


def test_a_log_changed_together_with_the_tiles_differs_from_the_anchors(made):
    """Whoever does both can't sign: the finding spans from the last anchor that holds to the first that does not."""
    made.sealed(100, 100, 100)
    made.tamper("log.db", "UPDATE stored_events SET topic = 'other' WHERE rowid = 150")
    (row,) = made.log.stored_after(149, max_events=1)
    tile = bytearray(made.seals.tile(0, 0))
    tile[32 * 149 : 32 * 150] = leaf.hash_of(row)
    block = merkle.perfect(tiles.split(bytes(tile)))
    made.tamper(
        "seals.db",
        "UPDATE tiles SET hashes = CASE level WHEN 0 THEN :tile ELSE :block END WHERE tile = 0",
        tile=bytes(tile),
        block=block,
    )
    report = made.verify()
    assert kinds(report) == [("anchor", 101, 200)]
    assert "both were changed" in str(report.findings[0])


def test_tiles_that_were_changed_are_told_from_a_log_that_was(made):
    """The log still has the root of the anchor: what differs is seals.db."""
    made.sealed(300, 10)
    made.tamper("seals.db", "UPDATE tiles SET hashes = :tile WHERE level = 0 AND tile = 0", tile=leaf_tile(made, 0, 6))
    report = made.verify()
    assert kinds(report) == [("changed", 7, 7), ("tile", 1, 256), ("tile", 1, 300)]
    assert "the log has the root of the anchor of size 300" in str(report.findings[2])


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE tiles SET hashes = zeroblob(32) WHERE level = 1", [("tile", 1, 256)]),
        ("DELETE FROM tiles WHERE level = 1", [("tile", 1, 256)]),
        ("DELETE FROM tiles WHERE level = 0 AND tile = 1", [("tile", 257, 310)]),
        ("UPDATE tiles SET hashes = substr(hashes, 1, 33) WHERE level = 0 AND tile = 1", [("tile", 257, 310)]),
        ("UPDATE anchors SET root = zeroblob(32) WHERE size = 300", [("signature", 300, 300), ("signature", 300, 300)]),
        ("UPDATE signatures SET signature = zeroblob(64) WHERE size = 300", [("signature", 300, 300), ("signature", 300, 300)]),
        ("DELETE FROM signatures WHERE size = 300", [("signature", 300, 300)]),
        ("UPDATE runs SET position = 2", [("tile", 1, 256), ("tile", 257, 310)]),
        ("DELETE FROM runs", [("tile", 1, 1)]),
    ],
)  # fmt: skip
def test_whatever_was_done_to_the_seals_is_found(made, statement, found):
    """Tiles of any level, anchors, signatures, positions."""
    made.sealed(300, 10).tamper("seals.db", statement)
    report = made.verify()
    assert kinds(report) == found
    assert not report.sound


def test_an_anchor_by_a_key_that_was_not_the_logs_then_is_found(made, entropy):
    """A key that was replaced signs nothing larger; one that came later nothing smaller."""
    made.sealed(5)
    keys.rotate(made.folder / "seal.key", made.seals, entropy=entropy, now=NOW)
    made.reopen()
    made.sealed(5)
    assert made.verify().sound
    made.tamper("seals.db", "UPDATE keys SET since_size = 3 WHERE key = 2")
    assert [finding.kind for finding in made.verify().findings] == ["key", "signature", "signature"]
    made.tamper("seals.db", "UPDATE keys SET since_size = 5, introduced = NULL WHERE key = 2")
    assert made.verify().findings[0].kind == "key"


def test_cosignatures_are_verified(made):
    """A witness's signature counts with its time; a false one is found."""
    made.sealed(5, 5)
    witness = FileSigner("w.example/w", Ed25519PrivateKey.from_private_bytes(b"\x05" * 32), COSIGNATURE)
    text = made.seals.note(5).text
    time = (1_800_000_000).to_bytes(8, "big")
    good = time + witness.sign(notes.cosigned(text, 1_800_000_000))
    made.seals.add_signature(5, witness.key, "witness", good, now=NOW)
    assert made.verify().counts.cosignatures == 1
    made.seals.add_signature(10, witness.key, "witness", good, now=NOW)
    report = made.verify()
    assert kinds(report) == [("signature", 10, 10)]
    assert "w.example/w" in str(report.findings[0])


def test_gaps_that_were_there_when_sealed_are_no_findings(made):
    """They are told; and an event that shows up in one is found."""
    made.receive_many(4)
    made.tamper(
        "log.db", "UPDATE stored_events SET rowid = 30 WHERE rowid = 4", "DELETE FROM stored_events WHERE rowid = 2"
    )
    made.sealed(300)
    report = made.verify()
    assert (report.sound, report.skipped, report.anchored) == (True, 27, 303)
    made.tamper(
        "log.db",
        COPY.format(at=2).replace("= 5", "= 1"),
    )
    assert kinds(made.verify()) == [("added", 2, 2)]


def test_findings_are_listed_up_to_a_number(made, monkeypatch):
    """More are counted."""
    monkeypatch.setattr(walk, "FINDINGS", 3)
    made.sealed(40).tamper("log.db", "DELETE FROM stored_events WHERE rowid % 2")
    report = made.verify()
    assert (kinds(report), report.more) == ([("removed", 1, 1), ("removed", 3, 3), ("removed", 5, 5)], 17)


# Anchors that were kept elsewhere


def test_an_anchor_that_was_kept_is_of_this_logs_past(made):
    """Of any size; with or without others' signatures."""
    made.sealed(5, 300, 5)
    kept = [str(made.seals.note(size)) for size in (5, 305, 310)]
    made.sealed(20)
    assert made.verify(kept=kept).sound


def test_log_and_seals_put_back_together_differ_from_an_anchor_that_was_kept(made):
    """Alone they can't know; whoever kept an anchor does. Grown again, they are another history."""
    made.sealed(5).save("log.db", "seals.db")
    kept = str(made.sealed(5).seals.note(10))
    made.put_back("log.db", "seals.db")
    assert made.verify().sound
    assert kinds(made.verify(kept=[kept])) == [("kept", 6, 6)]
    made.sealed(9)
    assert made.verify().sound
    report = made.verify(kept=[kept])
    assert kinds(report) == [("kept", 1, 10)]
    assert "another history" in str(report.findings[0])


def test_a_kept_anchor_that_is_none_or_anothers_is_found(made, installation):
    """It must be signed by a key of this log."""
    other = installation("simtrail.example/other")
    foreign = str(other.sealed(3).seals.note(3))
    other.close()
    note = str(made.sealed(5).seals.note(5))
    for kept in ("", "no anchor", foreign, note.replace("\n5\n", "\n4\n")):
        report = made.verify(kept=[kept])
        assert [finding.kind for finding in report.findings] == ["kept"]
        assert "does not count" in str(report.findings[0])


def test_kept_anchors_are_compared_as_far_as_there_are_tiles(made):
    """Seals with gaps have no root to show."""
    kept = str(made.sealed(300).seals.note(300))
    made.tamper("seals.db", "DELETE FROM tiles WHERE level = 0 AND tile = 1")
    assert [finding.kind for finding in made.verify(kept=[kept]).findings] == ["tile", "kept"]


def test_events_that_can_not_be_read_are_findings_wherever_they_stand(made):
    """Also where others are missing, so that no tile is full."""
    made.sealed(600)
    made.tamper(
        "log.db",
        "DELETE FROM stored_events WHERE rowid IN (3, 400)",
        "UPDATE stored_events SET state = x'c1' WHERE rowid IN (256, 512, 600)",
    )
    assert kinds(made.verify()) == [
        ("removed", 3, 3),
        ("changed", 256, 256),
        ("removed", 400, 400),
        ("changed", 512, 512),
        ("changed", 600, 600),
    ]


# Progress


def test_progress_is_told_and_can_be_gone_on_from(made, monkeypatch):
    """What was saved, through JSON, goes on to the same report; and again when the log has grown."""
    monkeypatch.setattr(verification, "PROGRESS_TILES", 1)
    made.sealed(700, 400)
    told: list[tuple[Progress, int]] = []
    full = made.verify(on_progress=lambda progress, size: told.append((progress, size)))
    assert [(progress.size, size) for progress, size in told] == [(256, 1100), (512, 1100), (768, 1100), (1024, 1100)]
    for progress, _ in told:
        saved = msgspec.json.decode(msgspec.json.encode(progress), type=Progress)
        report = made.verify(resume=saved)
        assert (report.resumed_from, report.counts, report.sound) == (progress.size, full.counts, True)
    assert full.progress.size == 1024
    made.sealed(1000)
    report = made.verify(resume=full.progress)
    assert (report.sound, report.resumed_from, report.counts.leaves, report.counts.anchors) == (True, 1024, 2100, 3)


def test_a_verification_can_be_stopped(made):
    """It is not sound then, and what is left is to be gone on with."""
    made.sealed(700)
    stop = threading.Event()
    stop.set()
    report = made.verify(stop=stop)
    assert (report.complete, report.sound, report.findings) == (False, False, ())


def test_progress_of_other_seals_is_not_gone_on_from(made, installation):
    """Verified is only what was verified here."""
    other = installation("simtrail.example/other")
    other.receive(b"other")
    progress = other.sealed(299).verify().progress
    other.close()
    made.sealed(300)
    for wrong in (
        progress,
        msgspec.structs.replace(made.verify().progress, size=512),
        msgspec.structs.replace(made.verify().progress, size=255),
        msgspec.structs.replace(made.verify().progress, roots=()),
    ):
        report = made.verify(resume=wrong)
        assert (report.resumed_from, report.sound, report.counts.leaves) == (0, True, 300)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_stopping_anywhere_changes_no_finding(installation, data):
    """Whatever was changed, and wherever a verification was stopped and gone on with."""
    made = installation()
    for count in data.draw(st.lists(st.integers(100, 400), min_size=2, max_size=4)):
        made.sealed(count)
    size = made.seals.last().size
    doomed = data.draw(st.sets(st.integers(1, size), max_size=4))
    edited = data.draw(st.sets(st.integers(1, size), max_size=4)) - doomed
    made.tamper(
        "log.db",
        *(f"DELETE FROM stored_events WHERE rowid = {position}" for position in doomed),
        *(f"UPDATE stored_events SET topic = 'x' WHERE rowid = {position}" for position in edited),
    )
    told: list[Progress] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verification, "PROGRESS_TILES", 1)
        full = made.verify(on_progress=lambda progress, _: told.append(progress))
    touched = {
        position: finding.kind for finding in full.findings for position in range(finding.first, finding.last + 1)
    }
    assert touched == dict.fromkeys(doomed, "removed") | dict.fromkeys(edited, "changed")
    for progress in told:
        assert made.verify(resume=progress).findings == full.findings
    made.close()


def test_a_log_that_grows_meanwhile_is_verified_up_to_where_it_began(made, monkeypatch):
    """On the live system: what is sealed while it runs is for the next time."""
    monkeypatch.setattr(verification, "PROGRESS_TILES", 1)
    made.sealed(600)
    report = made.verify(on_progress=lambda *_: made.sealed(10))
    assert (report.sound, report.anchored, report.counts.leaves) == (True, 600, 600)
    assert report.unsealed == 20
    assert made.verify().anchored == 620


def test_seals_that_only_a_reader_opens_are_enough(made):
    """Verification writes nothing."""
    made.sealed(3)
    made.close()
    with seals.open_to_read(made.folder / "seals.db") as reader:
        assert type(reader) is seals.Seals
    made.reopen()
    assert made.verify().sound
