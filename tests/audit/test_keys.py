from __future__ import annotations

import subprocess
import sys
from dataclasses import replace as changed
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from msgspec.structs import replace

from audit import keys
from audit import note as notes
from audit.anchor import ROTATION, Anchor, opened
from audit.keys import CommandSigner, FileSigner
from audit.merkle import EMPTY
from audit.note import Key
from audit.sealer import seal_batch
from schema.errors import ConfigurationError, ProofError, SealError, SignerUnavailable

NAME = "simtrail.example/test"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_key_file_is_for_its_owner_alone_and_openssl_reads_it(tmp_path, entropy):
    """PEM, PKCS #8, mode 0600 from its first moment on."""
    signer = keys.generate(tmp_path / "seal.key", NAME, entropy=entropy)
    assert (tmp_path / "seal.key").stat().st_mode & 0o777 == 0o600
    assert keys.load(tmp_path / "seal.key", NAME).key == signer.key
    told = subprocess.run(
        ["/usr/bin/openssl", "pkey", "-in", tmp_path / "seal.key", "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
    )
    assert told.stdout.endswith(signer.key.public)
    signature = keys.signed(signer, "text\n")
    assert signer.key.signed("text\n", signature.signature)


def test_a_key_is_made_from_the_entropy_given(tmp_path, entropy):
    """And never over another."""
    first = keys.generate(tmp_path / "a.key", NAME, entropy=lambda size: b"\x07" * size)
    assert keys.generate(tmp_path / "b.key", NAME, entropy=lambda size: b"\x07" * size).key == first.key
    with pytest.raises(ConfigurationError, match="File exists"):
        keys.generate(tmp_path / "a.key", NAME, entropy=entropy)
    with pytest.raises(ConfigurationError, match="No such file"):
        keys.generate(tmp_path / "none" / "a.key", NAME, entropy=entropy)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_not_used(tmp_path, entropy, mode):
    """Whoever reads it can sign another history."""
    keys.generate(tmp_path / "seal.key", NAME, entropy=entropy)
    (tmp_path / "seal.key").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
        keys.load(tmp_path / "seal.key", NAME)


def test_a_file_that_holds_no_ed25519_key_is_refused(tmp_path):
    """Missing, damaged, or a key of another algorithm."""
    path = tmp_path / "seal.key"
    with pytest.raises(ConfigurationError, match="copy it there"):
        keys.load(path, NAME)
    path.touch(mode=0o600)
    for content, told in (
        (b"", "damaged"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
        (
            Ed448PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "no Ed25519 key",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=told):
            keys.load(path, NAME)


def test_a_first_start_names_the_log_and_makes_its_key(tmp_path, entropy):
    """The name is an origin that no other installation has, the key's name, and stays."""
    paths = tmp_path / "seal.key", tmp_path / "seals.db"
    seals, signer = keys.start(*paths, entropy=entropy, now=NOW)
    assert seals.origin == signer.key.name
    assert seals.origin.startswith("simtrail.internal/")
    assert [known.key for known in seals.known_keys("log")] == [signer.key]
    seals.close()
    again, same = keys.start(*paths, entropy=entropy, now=NOW)
    assert (again.origin, same.key) == (signer.key.name, signer.key)
    again.close()
    with pytest.raises(ConfigurationError, match=r"called simtrail\.internal/.* can't be called other"):
        keys.start(*paths, origin="other", entropy=entropy, now=NOW)


def test_a_key_that_was_made_before_a_crash_is_used(tmp_path, entropy):
    """The key file comes first; seals that are not there yet are made for it."""
    made = keys.generate(tmp_path / "seal.key", NAME, entropy=entropy)
    seals, signer = keys.start(tmp_path / "seal.key", tmp_path / "seals.db", origin=NAME, entropy=entropy, now=NOW)
    assert signer.key == made.key
    seals.close()


def test_seals_without_their_key_are_not_given_another(made, entropy):
    """A new key would look like a new log; and so would another's file."""
    made.sealed(2)
    key = made.folder / "seal.key"
    key.rename(made.folder / "away")
    with pytest.raises(ConfigurationError, match="copy it there"):
        keys.start(key, made.folder / "seals.db", entropy=entropy, now=NOW)
    keys.generate(key, made.origin, entropy=entropy)
    with pytest.raises(SealError, match="put the right file back"):
        keys.start(key, made.folder / "seals.db", entropy=entropy, now=NOW)


def test_a_key_that_replaces_another_is_introduced_by_it(made):
    """By an anchor of the same tree that names it, signed by both; from then on it signs."""
    before = made.signer
    head = made.sealed(3).seals.last()
    after = keys.rotate(made.folder / "seal.key", made.seals, entropy=made.entropy, now=made.clock())
    first, second = made.seals.known_keys("log")
    assert (first.key, second.key, second.since_size) == (before.key, after.key, 3)
    note = notes.parse(second.introduced)
    for key in (before.key, after.key):
        anchor, _ = opened(note, [key])
        assert (anchor.size, anchor.root, anchor.extensions) == (3, head.root, (ROTATION + after.key.vkey,))
    made.reopen()
    assert made.signer.key == after.key
    made.sealed(2)
    assert [each.key_id for each in made.seals.note(5).signatures] == [after.key.id]
    assert [each.key_id for each in made.seals.note(3).signatures] == [before.key.id]
    assert made.verify().sound


def test_the_old_key_signs_no_more(made):
    """Not even by a process that still holds it."""
    old = made.sealed(1).signer
    keys.rotate(made.folder / "seal.key", made.seals, entropy=made.entropy, now=made.clock())
    made.receive(b"{}")
    with pytest.raises(SealError, match="nothing is signed by another key"):
        made.batch()
    made.reopen()
    made.seal()
    with pytest.raises(SealError, match="not the log's key"):
        made.seals.add_signature(2, replaced(old.key), "log", b"x" * 64, now=NOW)


def replaced(key: Key) -> Key:
    return changed(key, public=b"\x01" * 32)


def test_a_key_can_be_replaced_before_the_first_event(made):
    """The anchor that introduces it is of the empty tree."""
    keys.rotate(made.folder / "seal.key", made.seals, entropy=made.entropy, now=made.clock())
    anchor, _ = opened(notes.parse(made.seals.known_keys("log")[1].introduced), [made.signer.key])
    assert (anchor.size, anchor.root) == (0, EMPTY)
    made.reopen()
    assert made.sealed(2).verify().sound


@pytest.mark.parametrize("step", ["generate", "introduce", "_replace"])
def test_a_replacement_that_was_interrupted_is_finished_or_was_never_begun(made, monkeypatch, step):
    """Whenever the machine stops, there is one key that both the seals and the file know."""
    made.sealed(2)

    def die(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keys, step, die)
        with pytest.raises(KeyboardInterrupt):
            keys.rotate(made.folder / "seal.key", made.seals, entropy=made.entropy, now=made.clock())
    made.reopen()
    known = made.seals.known_keys("log")
    assert made.signer.key == known[-1].key
    assert len(known) == (2 if step == "_replace" else 1)
    made.sealed(1)
    keys.rotate(made.folder / "seal.key", made.seals, entropy=made.entropy, now=made.clock())
    made.reopen()
    assert made.sealed(1).verify().sound


def test_only_one_replacement_wins(made, entropy):
    """Another that was begun at the same time finds that the key is not the log's any more."""
    made.sealed(1)
    one, two = (keys.generate(made.folder / name, made.origin, entropy=entropy) for name in ("one", "two"))
    keys.introduce(made.seals, made.signer, one, now=NOW)
    with pytest.raises(SealError, match="nothing was changed"):
        keys.introduce(made.seals, made.signer, two, now=NOW)
    assert [known.key for known in made.seals.known_keys("log")] == [made.signer.key, one.key]


def test_an_anchor_that_waits_is_signed_before_its_key_goes(made, entropy):
    """Or it would be signed by a key that was not the log's when it was stored."""
    made.receive(b"{}")

    class Down:
        key = made.signer.key

        def sign(self, message: bytes) -> bytes:
            raise SignerUnavailable(message)

    working, made.signer = made.signer, Down()
    with pytest.raises(SignerUnavailable):
        made.batch()
    with pytest.raises(SealError, match="waits for its signature"):
        keys.introduce(made.seals, working, keys.generate(made.folder / "k", NAME, entropy=entropy), now=NOW)


def test_the_lineage_of_keys_has_no_gap(made, entropy):
    """Each key by the one before, for this log, at its size, by an anchor that both signed."""
    signers = [made.sealed(1).signer]
    for _ in range(2):
        keys.rotate(made.folder / "seal.key", made.seals, entropy=entropy, now=NOW)
        made.reopen()
        signers.append(made.sealed(1).signer)
    known = made.seals.known_keys("log")
    assert [(before.since_size, after.since_size) for before, after in pairwise(known)] == [(0, 1), (1, 2)]
    keys.check_lineage(made.origin, known)
    first, second, third = known
    forged = keys.generate(made.folder / "forged", made.origin, entropy=entropy)
    claim = Anchor(made.origin, 1, bytes(32), (ROTATION + forged.key.vkey,)).text
    other = Anchor(made.origin, 1, bytes(32), (ROTATION + third.key.vkey,)).text
    named = str(notes.Note(other, tuple(keys.signed(each, other) for each in (signers[0], signers[1]))))
    alone = str(notes.Note(claim, (keys.signed(forged, claim),)))
    for lineage in (
        [first, third],
        [first, replace(second, since_size=2)],
        [first, replace(second, introduced=None)],
        [first, replace(second, introduced=third.introduced)],
        [first, replace(second, key=forged.key)],
        [first, replace(second, key=forged.key, introduced=alone)],
        [first, replace(second, introduced=named)],
    ):
        with pytest.raises(ProofError):
            keys.check_lineage(made.origin, lineage)
    with pytest.raises(ProofError):
        keys.check_lineage("another", known)


SIGN = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
key = load_pem_private_key(Path(sys.argv[1]).read_bytes(), None)
sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))
"""


def test_a_command_can_sign_instead(made):
    """Its signatures are those of the key, and what it signs is the anchor's text."""
    command = [sys.executable, "-c", SIGN, str(made.folder / "seal.key")]
    made.signer = CommandSigner(command, made.signer.key)
    assert made.sealed(3).verify().sound


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["/no/such/signer"], "can't be run"),
        ([sys.executable, "-c", "import sys; sys.exit('the token is not plugged in')"], "not plugged in"),
        ([sys.executable, "-c", ""], "ended with 0 and 0 bytes"),
        ([sys.executable, "-c", "print('x' * 70_000)"], "70001 bytes"),
        ([sys.executable, "-c", "print('x' * 63)"], "not that key's"),
        ([sys.executable, "-c", "import sys; print('x' * 63); sys.exit(3)"], "ended with 3 and 64 bytes"),
    ],
)
def test_a_command_that_gives_no_signature_says_why(made, command, told):
    """Nothing is signed then, and what was to be signed waits."""
    made.receive(b"{}")
    working = made.signer
    made.signer = CommandSigner(command, made.signer.key)
    with pytest.raises(SignerUnavailable, match=told):
        made.seal()
    assert not made.seals.last().signed
    made.signer = working
    assert made.seal().size == 1


def test_a_command_that_takes_too_long_is_given_up(made, monkeypatch):
    """It must not hold up the sealing for ever."""
    monkeypatch.setattr(keys, "SIGNER_S", 0.1)
    slow = CommandSigner([sys.executable, "-c", "import time; time.sleep(60)"], made.signer.key)
    with pytest.raises(SignerUnavailable, match="timed out"):
        slow.sign(b"text")


def test_signatures_of_other_algorithms_stand_beside_the_logs(made):
    """They are carried along for those who know them, and nobody else minds."""
    other = CommandSigner([sys.executable, "-c", "print('signature of another kind')"], Key(made.origin, 0xFA, b"key"))
    made.receive(b"{}")
    seal_batch(made.log, made.seals, made.signer, now=made.clock(), also=[other])
    note = made.seals.note(1)
    assert [(each.key_id, each.signature) for each in note.signatures][1] == (
        other.key.id,
        b"signature of another kind\n",
    )
    assert opened(note, [made.signer.key])[0].size == 1
    assert made.verify().sound


def test_a_signer_signs_under_the_name_that_it_is_given(tmp_path, entropy):
    """The name is a part of the key's identity."""
    signer = keys.generate(tmp_path / "k", "a.example", entropy=entropy)
    assert isinstance(keys.load(tmp_path / "k", "b.example"), FileSigner)
    assert keys.load(tmp_path / "k", "b.example").key.id != signer.key.id
