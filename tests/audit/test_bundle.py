from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import bundle, keys, proof, verify_bundle
from audit import note as notes
from audit.keys import FileSigner
from audit.note import COSIGNATURE
from audit.verify_bundle import check_bundle
from schema import event
from schema.errors import ConfigurationError, NotSealed, ProofError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WITNESS = FileSigner("w.example/w", Ed25519PrivateKey.from_private_bytes(b"\x05" * 32), COSIGNATURE)


def write(made, first, last, name="evidence", tables=None):
    target = made.folder / name
    bundle.write(target, made.log, made.seals, first=first, last=last, made_by="simtrail 0.1.0", now=NOW, tables=tables)
    return target


def cosign(made, size):
    text = made.seals.note(size).text
    signature = (1_800_000_000).to_bytes(8, "big") + WITNESS.sign(notes.cosigned(text, 1_800_000_000))
    made.seals.add_signature(size, WITNESS.key, "witness", signature, now=NOW)


def events(target):
    return [json.loads(line) for line in (target / "data" / "events.ndjson").read_text().splitlines()]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 570), (2, 2), (5, 12), (256, 257), (300, 559), (570, 570)])
def test_any_range_of_events_makes_a_bundle_that_is_checked_without_simtrail(made, first, last):
    """Between any positions, before and after any anchor."""
    made.sealed(1, 255, 1, 300, 2, 11)
    target = write(made, first, last)
    checked = check_bundle(target, [], [], [])
    assert f"From position {first} to {last} no event is left out" in " ".join(checked.proven)
    found = events(target)
    assert [each["position"] for each in found] == list(range(first, last + 1))
    stored = made.log.after(first - 1, max_events=last - first + 1)
    assert [event.decode(base64.b64decode(each["state"])) for each in found] == [each.delivery for each in stored]


def test_a_bundle_has_the_anchors_around_its_events(made):
    """The last one that ends before the first event, and the newest; the cosigned one where there is one."""
    made.sealed(2, 3, 4, 5)
    about = json.loads((write(made, 6, 7) / "data" / "bundle.json").read_text())
    assert (about["first_anchor"], about["last_anchor"]) == (5, 14)
    assert about["range"] == {"first_position": 6, "last_position": 7, "first_index": 5, "events": 2}
    cosign(made, 9)
    target = write(made, 6, 7, "cosigned")
    assert json.loads((target / "data" / "bundle.json").read_text())["last_anchor"] == 9
    checked = check_bundle(target, [], [], [])
    assert any("cosigned by w.example/w" in each for each in checked.proven)
    target = write(made, 1, 2, "first")
    assert json.loads((target / "data" / "bundle.json").read_text())["first_anchor"] is None
    assert not (target / "data" / "anchors" / "first.txt").exists()


def test_a_bundle_ends_with_the_anchor_that_others_vouch_for_most(made, monkeypatch):
    """The first that is time-stamped and cosigned; else the last that is cosigned; else the first that is time-stamped."""
    made.sealed(2, 3, 4, 5, 6, 7)

    def ends_with(name):
        data = write(made, 3, 4, name) / "data"
        size = json.loads((data / "bundle.json").read_text())["last_anchor"]
        stamp = data / "anchors" / "last.tsr"
        return size, stamp.read_bytes() if stamp.exists() else None

    def stamp(size):
        token = hashlib.sha256(made.seals.note(size).text.encode()).digest()
        made.seals.add_timestamp(size, token, now=NOW)
        return token

    assert ends_with("alone") == (27, None)
    stamp(2)  # Before these events.
    assert ends_with("before") == (27, None)
    assert (made.folder / "before" / "data" / "anchors" / "first.tsr").exists()
    first = stamp(9)
    second = stamp(14)
    stamp(27)
    assert ends_with("stamped") == (9, first)
    cosign(made, 20)
    assert ends_with("cosigned") == (20, None)
    cosign(made, 14)
    assert ends_with("both") == (14, second)
    monkeypatch.setattr(bundle, "STAMPS", 1)
    assert ends_with("bounded") == (20, None)


def test_a_bundle_is_a_bag(made):
    """RFC 8493: declaration, description, every file listed with its digest, and no other."""
    target = write(made.sealed(9), 3, 5)
    assert (target / "bagit.txt").read_text() == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    payload = [path for path in (target / "data").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in payload)
    assert f"Payload-Oxum: {size}.{len(payload)}\n" in (target / "bag-info.txt").read_text()
    listed = dict(
        reversed(line.split("  "))
        for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt")
        for line in (target / name).read_text().splitlines()
    )
    files = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    assert listed == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name != "tagmanifest-sha256.txt"
    }


def test_the_verifier_in_a_bundle_needs_nothing_but_python(made):
    """Run as it lies there, isolated, without site-packages; it says what it proved and what not."""
    target = write(made.sealed(9), 3, 5)
    ran = subprocess.run(
        [sys.executable, "-I", "-S", target / "verify.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "PROVEN" in ran.stdout
    assert "Each of the 3 events is in the tree of size 9" in ran.stdout
    assert f"That this is the log's key:\n  {made.signer.key.vkey}" in ran.stdout
    assert "a webhook that never arrived" in ran.stdout
    assert (target / "verify.py").read_bytes() == (made.folder / "evidence" / "verify.py").read_bytes()


def test_receipts_can_be_taken_out_of_a_bundle(made):
    """The same as the installation gives out, and as good."""
    target = write(made.sealed(9), 3, 5)
    checked = check_bundle(target, [], [], [])
    assert checked.receipt(4) == str(proof.receipt(made.log, made.seals, 4))
    with pytest.raises(verify_bundle.Failure, match="position 9"):
        checked.receipt(9)


def test_tables_lie_beside_the_events(made):
    """Listed, and told to be no proof by themselves."""
    tables = made.folder / "tables"
    (tables / "more").mkdir(parents=True)
    (tables / "sims.csv").write_text("sim\n")
    (tables / "more" / "jobs.csv").write_text("job\n")
    target = write(made.sealed(3), 1, 3, tables=tables)
    assert (target / "data" / "tables" / "more" / "jobs.csv").read_text() == "job\n"
    checked = check_bundle(target, [], [], [])
    assert any("data/tables/" in each for each in checked.open)
    (tables / "a file.csv").write_text("x")
    with pytest.raises(ConfigurationError, match="without spaces"):
        write(made, 1, 3, "odd", tables=tables)
    assert not (made.folder / "odd").exists()


def test_keys_that_were_replaced_come_with_what_introduced_them(made, entropy):
    """Whoever knows the first key believes the last."""
    first = made.sealed(3).signer.key
    keys.rotate(made.folder / "seal.key", made.seals, entropy=entropy, now=NOW)
    made.reopen()
    target = write(made.sealed(3), 4, 6)
    given = verify_bundle.Key(first.vkey, "--key")
    checked = check_bundle(target, [given], [], [])
    assert any("was introduced by" in each for each in checked.proven)
    assert not any("log's key" in each for each in checked.open)
    # The first anchor was signed by the key before; what counts is the last, which begins with it.
    checked = check_bundle(target, [verify_bundle.Key(made.signer.key.vkey, "--key")], [], [])
    assert not any("log's key" in each for each in checked.open)
    # Without what introduced the new key, the old one is not known to be followed by it.
    keys_file = target / "data" / "keys.json"
    rows = json.loads(keys_file.read_text())["keys"]
    for changed in ([rows[0]], [rows[1]], [rows[1], rows[0]], [rows[0], dict(rows[1], introduced=None)]):
        keys_file.write_text(json.dumps({"keys": changed}))
        with pytest.raises(verify_bundle.Failure):
            verify_bundle.check_files(verify_bundle.Folder(target), [given], [], [])


def test_a_key_that_was_replaced_signs_nothing_larger(made, entropy):
    """Whoever got hold of it later can't sign another history with it."""
    made.sealed(3).save("log.db", "seals.db", "seal.key")
    keys.rotate(made.folder / "seal.key", made.seals, entropy=entropy, now=NOW)
    made.reopen()
    introduced = json.loads((write(made.sealed(3), 4, 6) / "data" / "keys.json").read_text())
    made.put_back("log.db", "seals.db", "seal.key")
    target = write(made.sealed(3), 4, 6, "forged")
    (target / "data" / "keys.json").write_text(json.dumps(introduced))
    with pytest.raises(verify_bundle.Failure, match=r"last\.txt: is not signed by the log's key of its time"):
        verify_bundle.check_files(verify_bundle.Folder(target), [], [], [])


def test_gaps_between_positions_are_told(made):
    """They were there when the events were sealed."""
    made.receive_many(5)
    made.tamper("log.db", "DELETE FROM stored_events WHERE rowid IN (2, 3)")
    made.seal()
    target = write(made, 1, 5)
    assert [each["position"] for each in events(target)] == [1, 4, 5]
    assert any("No event had a position from 2 to 3" in each for each in check_bundle(target, [], [], []).proven)
    assert [each["position"] for each in events(write(made, 2, 4, "inside"))] == [4]
    with pytest.raises(ProofError, match="no event was sealed from position 2 to 3"):
        write(made, 2, 3, "none")


def test_only_what_is_sealed_can_be_bundled(made):
    """An event that waits is waited for; one that is not there can't be."""
    with pytest.raises(NotSealed):
        write(made, 1, 1)
    made.sealed(3)
    made.receive_many(2)
    with pytest.raises(NotSealed, match="sealed up to 3 only"):
        write(made, 2, 5)
    made.seal()
    assert [each["position"] for each in events(write(made, 4, 900))] == [4, 5]
    with pytest.raises(ProofError, match="no event was sealed"):
        write(made, 6, 9, "none")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'x' WHERE rowid = 4",
        "DELETE FROM stored_events WHERE rowid = 4",
        "DELETE FROM stored_events WHERE rowid > 3",
        "UPDATE stored_events SET rowid = 400 WHERE rowid = 4",
    ],
)
def test_what_was_changed_since_is_not_bundled(made, statement):
    """What can't be proven is not given out as evidence; and nothing half-made stays."""
    made.sealed(300).tamper("log.db", statement)
    with pytest.raises(ProofError, match="is not the one that was sealed"):
        write(made, 1, 9)
    assert not [path for path in made.folder.iterdir() if "evidence" in path.name]


def test_a_bundle_is_never_written_over_another(made):
    """Nor where nothing can be written."""
    write(made.sealed(3), 1, 3)
    with pytest.raises(ConfigurationError, match="there already"):
        write(made, 1, 2)
    with pytest.raises(ConfigurationError, match="can't be written"):
        write(made, 1, 2, "none/evidence/x" if (made.folder / "none").touch() is None else "")


def test_a_packed_bundle_is_the_same_bytes_each_time(made):
    """And is checked as it is."""
    target = write(made.sealed(9), 3, 5)
    bundle.pack(target, made.folder / "one.zip")
    for path in target.rglob("*"):
        path.touch()
    bundle.pack(target, made.folder / "two.zip")
    assert (made.folder / "one.zip").read_bytes() == (made.folder / "two.zip").read_bytes()
    assert check_bundle(made.folder / "one.zip", [], [], []).proven == check_bundle(target, [], [], []).proven
    shutil.unpack_archive(made.folder / "one.zip", made.folder / "unpacked")
    assert check_bundle(made.folder / "unpacked" / "evidence", [], [], []).proven


def test_a_bundle_too_large_for_a_zip_stays_a_folder(made, monkeypatch):
    """The message says so."""
    target = write(made.sealed(9), 3, 5)
    monkeypatch.setattr(bundle, "ZIP_BYTES", 1_000)
    with pytest.raises(ConfigurationError, match="keep the folder"):
        bundle.pack(target, made.folder / "large.zip")
    assert not [path for path in made.folder.iterdir() if "large" in path.name]
