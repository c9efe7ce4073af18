from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import anchor as anchors
from audit import leaf, merkle, sealer
from audit import note as notes
from audit.sealer import seal, seal_batch
from schema.errors import ForkError, LogError, SealError, SignerUnavailable
from schema.log import open_to_read

DEADLINE_S = 20
NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Recorder:
    """A signer that remembers all that it was given to sign, also across processes; and can be down."""

    def __init__(self, signer, path) -> None:
        self.inner = signer
        self.key = signer.key
        self.path = path
        self.down = False

    def sign(self, message):
        """Sign, and remember."""
        if self.down:
            msg = "the signer is down"
            raise SignerUnavailable(msg)
        with self.path.open("ab") as file:
            file.write(message + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return self.inner.sign(message)


def roots_signed(path):
    """Every root that was ever given to a signer, by size."""
    found: dict[int, set[bytes]] = {}
    for text in path.read_text().split("\n\n")[:-1]:
        anchor = anchors.parse(text + "\n")
        found.setdefault(anchor.size, set()).add(anchor.root)
    return found


def leaves(installation):
    rows = installation.log.stored_after(0, max_events=1_000_000, max_bytes=1 << 40)
    return [leaf.hash_of(row) for row in rows]


def test_an_anchor_has_the_root_over_the_leaves(made):
    """Each anchor that is signed, at its size."""
    made.sealed(1, 255, 1, 300, 2)
    for head in made.seals.heads(limit=100):
        anchor, _ = anchors.opened(made.seals.note(head.size), [made.signer.key])
        edge = merkle.Edge()
        edge.extend(leaves(made)[: head.size])
        assert (anchor.origin, anchor.size, anchor.root) == (made.origin, head.size, edge.root())
    assert [head.size for head in made.seals.heads(limit=100)] == [1, 256, 257, 557, 559]


def test_without_new_events_nothing_is_signed(made):
    """No anchor of an empty log, and none twice."""
    assert made.batch() is None
    made.sealed(3)
    assert made.batch() is None
    assert len(made.seals.heads(limit=10)) == 1


def test_a_batch_is_bounded(made, monkeypatch):
    """A log that is far ahead is caught up with in several anchors."""
    monkeypatch.setattr(sealer, "BATCH_LEAVES", 300)
    made.sealed(1_000)
    assert [head.size for head in made.seals.heads(limit=10)] == [512, 1_000]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_tiles_do_not_depend_on_the_batches(installation, counts):
    """Sealed in one go or in many, the tree is the same."""
    one = installation()
    for count in counts:
        one.receive_many(count)
        one.batch()
    edge = merkle.Edge()
    edge.extend(leaves(one))
    assert one.seals.last().root == edge.root() == merkle.root(edge.size, one.seals.node)
    one.close()


def test_positions_that_skip_are_kept(made):
    """An event that was gone before it was sealed leaves a gap that stays visible."""
    made.receive_many(4)
    made.tamper("log.db", "DELETE FROM stored_events WHERE rowid IN (1, 3)")
    made.seal()
    assert made.seals.runs() == [(0, 2), (1, 4)]
    made.sealed(2)
    assert made.seals.runs() == [(0, 2), (1, 4)]
    assert [made.seals.leaf_at(position) for position in range(1, 8)] == [None, 0, None, 1, 2, 3, None]


# Forks


def test_a_log_put_back_to_an_older_copy_is_refused_as_a_fork(made):
    """Nothing is signed, and everyone can see why."""
    made.sealed(5).save("log.db")
    made.sealed(5).put_back("log.db")
    with pytest.raises(ForkError, match=r"ends at position 5, but was sealed up to 10.*put back to an older copy"):
        made.batch()
    (refusal,) = made.seals.refusals()
    assert (refusal.finder, refusal.size) == ("sealer", 10)
    assert "put back to an older copy" in refusal.reason
    assert made.seals.last().size == 10


def test_an_older_copy_that_has_grown_past_the_seals_is_refused_too(made):
    """The event at the last sealed position is not the one in the tree."""
    made.sealed(5).save("log.db")
    made.sealed(5).put_back("log.db")
    made.receive_many(9)
    with pytest.raises(ForkError, match="position 10 is not the one that was sealed"):
        made.batch()


def test_a_log_that_lost_its_last_event_is_refused(made):
    """Also where later ones are there."""
    made.sealed(5)
    made.receive_many(2)
    made.tamper("log.db", "DELETE FROM stored_events WHERE rowid = 5")
    with pytest.raises(ForkError, match="position 5 is not the one"):
        made.batch()


def test_a_last_event_that_can_not_be_read_any_more_is_refused(made):
    """It was readable when it was sealed."""
    made.sealed(5).tamper("log.db", "UPDATE stored_events SET state = x'c1' WHERE rowid = 5")
    with pytest.raises(ForkError, match="position 5 is not the one"):
        made.batch()


def test_sealing_goes_on_when_the_right_log_is_back(made):
    """And the refusal stands no more."""
    made.sealed(5).save("log.db")
    made.sealed(5)
    made.close()
    (made.folder / "log.db").rename(made.folder / "log.db.right")
    made.reopen()
    with pytest.raises(ForkError):
        made.batch()
    made.close()
    for leftover in made.folder.glob("log.db-*"):
        leftover.unlink()
    (made.folder / "log.db.right").rename(made.folder / "log.db")
    made.reopen()
    assert made.seals.refusals()
    assert made.batch() is None
    assert made.seals.refusals() == []
    assert made.sealed(1).verify().sound


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tiles SET hashes = zeroblob(32) WHERE level = 1",
        "UPDATE anchors SET root = zeroblob(32) WHERE size = 300",
        "UPDATE signatures SET signature = zeroblob(64)",
        "DELETE FROM tiles WHERE level = 1",
    ],
)
def test_seals_that_were_changed_are_not_gone_on_from(made, statement):
    """The tree of the last anchor must be the beginning of the next, proven from the tiles and the signature."""
    made.sealed(300).tamper("seals.db", statement)
    made.receive_many(3)
    with pytest.raises(ForkError, match=r"restore seals\.db"):
        made.batch()
    assert made.seals.refusals()
    assert made.seals.last().size == 300


@pytest.mark.parametrize("at", [0, 20, 42])
def test_a_single_leaf_that_was_changed_is_not_gone_on_from(made, at):
    """In the tile that the next leaves are put into."""
    made.sealed(300)
    tile = bytearray(made.seals.tile(0, 1))
    tile[32 * at] ^= 1
    made.tamper("seals.db", "UPDATE tiles SET hashes = :tile WHERE level = 0 AND tile = 1", tile=bytes(tile))
    made.receive_many(3)
    with pytest.raises(ForkError, match=r"restore seals\.db"):
        made.batch()


def test_an_event_that_can_not_be_read_stops_the_sealing(made):
    """An envelope is ours: damage to it is not sealed over."""
    made.sealed(1)
    made.receive_many(2)
    made.tamper("log.db", "UPDATE stored_events SET state = x'c1' WHERE rowid = 3")
    with pytest.raises(LogError, match="envelope can't be read"):
        made.batch()
    assert made.seals.last().size == 1


# Between storing and signing


def test_a_head_that_waits_is_signed_before_anything_else(made, tmp_path):
    """Whatever has come since: no second root of its size is ever given to a signer."""
    made.sealed(3)
    made.signer = recorder = Recorder(made.signer, tmp_path / "signed")
    recorder.down = True
    made.receive_many(2)
    with pytest.raises(SignerUnavailable):
        made.batch()
    assert (made.seals.last().size, made.seals.last(signed=True).size) == (5, 3)
    made.receive_many(4)
    recorder.down = False
    assert (made.batch().size, made.batch().size, made.batch()) == (5, 9, None)
    assert sorted(roots_signed(recorder.path)) == [5, 9]
    assert made.verify().sound


def test_a_head_that_waits_is_not_signed_over_another_log(made, tmp_path):
    """What was changed in between is noticed first."""
    made.sealed(3)
    made.signer = recorder = Recorder(made.signer, tmp_path / "signed")
    recorder.down = True
    made.receive_many(2)
    with pytest.raises(SignerUnavailable):
        made.batch()
    made.tamper("log.db", "DELETE FROM stored_events WHERE rowid > 3")
    made.receive_many(2)
    made.signer, recorder.down = recorder, False
    with pytest.raises(ForkError):
        made.batch()
    assert not recorder.path.exists()


def test_a_head_that_waits_is_not_signed_over_seals_that_were_changed(made, tmp_path):
    """It was proven when it was stored; by now the tiles may be others."""
    made.sealed(3)
    made.signer = recorder = Recorder(made.signer, tmp_path / "signed")
    recorder.down = True
    made.receive_many(2)
    with pytest.raises(SignerUnavailable):
        made.batch()
    tile = bytearray(made.seals.tile(0, 0))
    tile[0] ^= 1
    made.tamper("seals.db", "UPDATE tiles SET hashes = :tile WHERE level = 0", tile=bytes(tile))
    made.signer, recorder.down = recorder, False
    with pytest.raises(ForkError, match=r"restore seals\.db"):
        made.batch()
    assert not recorder.path.exists()


def test_of_two_sealers_one_goes_on(made, tmp_path):
    """Whoever comes second finds the head of the first, and signs nothing of its own."""
    made.sealed(2)
    recorder = Recorder(made.signer, tmp_path / "signed")
    made.receive_many(3)

    class Interrupted(Recorder):
        """While this one integrates, another seals more."""

    second = Interrupted(made.signer, tmp_path / "signed")
    integrate = sealer._integrate

    def overtaken(log, seals, last, now):
        grown = integrate(log, seals, last, now)
        sealer._integrate = integrate
        made.receive_many(2)
        overtaking = seal_batch(log, seals, recorder, now=now)
        assert overtaking is not None
        assert overtaking.size == 7
        return grown

    sealer._integrate = overtaken
    try:
        assert seal_batch(made.log, made.seals, second, now=made.clock()) is None
    finally:
        sealer._integrate = integrate
    assert sorted(roots_signed(recorder.path)) == [7]
    assert made.verify().sound


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from audit import keys, sealer, merkle
from schema.log import open_to_read

folder, step = Path(sys.argv[1]), sys.argv[2]
now = datetime(2026, 5, 2, tzinfo=UTC)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

seals, inner = keys.start(folder / "seal.key", folder / "seals.db", entropy=os.urandom, now=now)

class Signer:
    key = inner.key
    def sign(self, message):
        if step == "before the signature":
            die()
        with (folder / "signed").open("ab") as file:
            file.write(message + b"\\n")
            file.flush()
            os.fsync(file.fileno())
        if step == "after the signature":
            die()
        return inner.sign(message)

commits = []
def trace(sql):
    if sql.startswith("UPDATE tiles") and step == "while tiles are written":
        die()
    if sql == "COMMIT":
        commits.append(sql)
        if step == f"before commit {len(commits)}":
            die()

seals._connection.set_trace_callback(trace)
add, add_signature = seals.add, seals.add_signature
if step == "before the batch is stored":
    seals.add = lambda *a, **k: die()
if step == "after the batch is stored":
    seals.add = lambda *a, **k: (add(*a, **k), die())
if step == "after the signature is stored":
    seals.add_signature = lambda *a, **k: (add_signature(*a, **k), die())
if step == "while integrating":
    merkle.root = die
with open_to_read(folder / "log.db") as log:
    sealer.seal_batch(log, seals, Signer(), now=now)
print("survived")
"""


@pytest.mark.parametrize(
    ("step", "stored", "signed"),
    [
        ("while integrating", 300, []),
        ("before the batch is stored", 300, []),
        ("while tiles are written", 300, []),
        ("before commit 1", 300, []),
        ("after the batch is stored", 600, []),
        ("before the signature", 600, []),
        ("after the signature", 600, [600]),
        ("before commit 2", 600, [600]),
        ("after the signature is stored", 600, [600]),
        ("never", 600, [600]),
    ],
)
def test_a_sealer_killed_at_any_step_never_signs_two_trees_of_one_size(made, step, stored, signed):
    """SIGKILL; then more events come, and a new sealer goes on: one root for each size, every anchor sound."""
    made.sealed(300)
    made.receive_many(300)
    path = made.folder / "signed"
    path.touch()
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, made.folder, step], cwd=root, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == ((0, "survived\n") if step == "never" else (-9, "")), ran.stderr
    assert sorted(roots_signed(path)) == signed
    made.receive_many(7)
    made.reopen()
    assert made.seals.last().size == stored
    made.signer = Recorder(made.signer, path)
    made.seal()
    roots = roots_signed(path)
    assert all(len(each) == 1 for each in roots.values())
    assert sorted(roots) == ([607] if stored == 300 else [600, 607])
    assert {head.size: {head.root} for head in made.seals.heads(above=300, limit=10)} == roots
    assert made.verify().sound


# Following


def test_following_seals_what_comes_and_stops_when_told(made):
    """Woken by the log, at most one anchor a pause; stopped between two batches."""
    stop = threading.Event()
    heads: list[int] = []
    sealed_up_to = threading.Event()

    def on_anchor(head):
        heads.append(head.size)
        if head.size == 5:
            sealed_up_to.set()

    made.receive_many(2)
    reader = open_to_read(made.folder / "log.db")
    made.seals.close()
    result: list[int] = []

    def follow():
        from audit import seal_writer  # noqa: PLC0415

        with seal_writer.open_to_write(made.folder / "seals.db") as seals:
            result.append(seal(reader, seals, made.signer, clock=lambda: NOW, stop=stop, on_anchor=on_anchor))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not heads and time.monotonic() < deadline:
            time.sleep(0.01)
        made.receive_many(3)
        assert sealed_up_to.wait(DEADLINE_S)
    finally:
        stop.set()
        follower.join(DEADLINE_S)
        reader.close()
    assert not follower.is_alive()
    assert (heads[-1], result) == (5, [5])


def test_only_one_sealer_is_at_work_on_a_log(made, monkeypatch):
    """Where the log says that another has the role, nothing is read or signed."""
    made.receive_many(1)
    monkeypatch.setattr(made.log, "hold_role", lambda role: role != "sealer")
    with pytest.raises(SealError, match="another sealer is at work"):
        made.seal()
    assert made.seals.last() is None


def test_a_signer_of_another_key_seals_nothing(made, entropy):
    """Even where it could sign."""
    from audit import keys  # noqa: PLC0415

    made.sealed(1)
    made.receive_many(1)
    made.signer = keys.generate(made.folder / "other.key", made.origin, entropy=entropy)
    with pytest.raises(SealError, match="nothing is signed by another key"):
        made.batch()


def test_what_is_signed_is_a_checkpoint(made):
    """Origin, size and root, each on a line, in a signed note."""
    note = str(made.sealed(2).seals.note(2))
    lines = note.split("\n")
    assert lines[:2] == [made.origin, "2"]
    assert lines[3] == ""
    assert lines[4].startswith(f"— {made.origin} ")
    assert notes.parse(note).verified([made.signer.key])
