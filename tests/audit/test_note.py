"""Signed notes against the examples of those who defined them: C2SP, Go's sumdb, and a log with its witnesses."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit import note as notes
from audit.keys import FileSigner
from audit.note import COSIGNATURE, ED25519, Key, Note, Signature
from schema.errors import ProofError

SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
"""C2SP signed-note, the specification's own example."""

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = f"""\
{GO_TEXT}
— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=
"""
"""The key, text and signatures in the documentation and tests of golang.org/x/mod/sumdb/note."""

LIVE_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
LIVE_WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
LIVE_NOTE = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
"""
"""A checkpoint of a running log with an RFC 6962 signature, an Ed25519 one, and cosignatures of running witnesses."""

SPEC_COSIGNED = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""
"""C2SP tlog-cosignature, the specification's example, whose keys it does not give."""


def names(found: list[tuple[Key, Signature]]) -> list[str]:
    return [key.name for key, _ in found]


@pytest.mark.parametrize(
    ("note", "vkeys"),
    [(SPEC_NOTE, [SPEC_KEY]), (GO_NOTE, [PETER, ENOCH]), (LIVE_NOTE, [LIVE_LOG, LIVE_WITNESS])],
    ids=["C2SP", "Go", "running"],
)
def test_the_examples_of_others_verify(note, vkeys):
    """By each of their keys, alone and together, and read and written byte for byte."""
    found = notes.parse(note)
    keys = [notes.parse_key(vkey) for vkey in vkeys]
    assert [key.vkey for key in keys] == vkeys
    assert names(found.verified(keys)) == [key.name for key in keys]
    for key in keys:
        assert names(found.verified([key])) == [key.name]
    assert str(found) == note
    assert str(notes.parse(note.encode())) == note


@pytest.mark.parametrize(
    ("note", "vkey"), [(SPEC_NOTE, SPEC_KEY), (GO_NOTE, PETER), (LIVE_NOTE, LIVE_LOG), (LIVE_NOTE, LIVE_WITNESS)]
)
def test_a_text_that_was_changed_is_signed_by_nobody(note, vkey):
    """Any change to the text makes its signatures false, which is not passed over."""
    changed = notes.parse("1" + note[1:])
    with pytest.raises(ProofError, match="is not over this text"):
        changed.verified([notes.parse_key(vkey)])


def test_signing_gives_the_examples_signature():
    """Ed25519 leaves no choice: the same key and text give the same note."""
    signer = FileSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETER_SEED))
    assert signer.key.vkey == PETER
    signature = Signature(signer.key.name, signer.key.id, signer.sign(GO_TEXT.encode()))
    assert signature.line == GO_NOTE.split("\n")[3]
    assert signature.by(signer.key)
    assert not signature.by(notes.parse_key(ENOCH))


def test_a_cosignature_carries_its_time():
    """C2SP tlog-cosignature: eight bytes before the signature, and a line of the message."""
    witness = notes.parse(SPEC_COSIGNED).signatures[1]
    assert (witness.name, len(witness.signature), notes.cosigned_at(witness)) == (
        "witness.example.com/w1",
        72,
        1679315147,
    )
    text = notes.parse(SPEC_COSIGNED).text
    assert notes.cosigned(text, 1679315147).decode() == (
        "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    (_, live), *_ = notes.parse(LIVE_NOTE).verified([notes.parse_key(LIVE_WITNESS)])
    assert notes.cosigned_at(live) == 1779573024


def test_a_cosignature_of_another_time_is_false():
    """The time is signed too; and one past the specification's limit is refused before."""
    key = notes.parse_key(LIVE_WITNESS)
    note = notes.parse(LIVE_NOTE)
    ((_, found),) = note.verified([key])
    assert key.signed(note.text, found.signature)
    for changed in (
        b"\x00" * 7 + b"\x01" + found.signature[8:],
        b"\xff" * 8 + found.signature[8:],
        found.signature[:-1],
        found.signature[8:],
    ):
        assert not key.signed(note.text, changed)
    signer = FileSigner("w.example", Ed25519PrivateKey.from_private_bytes(PETER_SEED), COSIGNATURE)
    for time, counts in (((1 << 63) - 1, True), (1 << 63, False)):
        signature = time.to_bytes(8, "big") + signer.sign(notes.cosigned(note.text, time))
        assert signer.key.signed(note.text, signature) is counts


def test_a_kind_of_key_signs_for_its_kind_alone():
    """The same 32 bytes as a log's key and as a witness's are two keys; and others' kinds count for nothing."""
    signer = FileSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETER_SEED))
    public = signer.key.public
    as_witness, unknown = Key("PeterNeumann", COSIGNATURE, public), Key("PeterNeumann", 0x05, public)
    assert len({signer.key.id, as_witness.id, unknown.id}) == 3
    signature = signer.sign(GO_TEXT.encode())
    assert signer.key.signed(GO_TEXT, signature)
    assert not as_witness.signed(GO_TEXT, signature)
    assert not unknown.signed(GO_TEXT, signature)


def test_signatures_by_unknown_keys_are_passed_over():
    """Even one that shares a name, or an id, with a key that is known."""
    enoch = notes.parse_key(ENOCH)
    assert names(notes.parse(GO_NOTE).verified([enoch])) == ["EnochRoot"]
    assert notes.parse(GO_NOTE).verified([]) == []
    stranger = Signature("PeterNeumann", enoch.id, b"x" * 64)
    note = notes.parse(GO_NOTE)
    assert names(Note(note.text, (stranger, *note.signatures)).verified([notes.parse_key(PETER)])) == ["PeterNeumann"]


def test_a_key_counts_once():
    """However often its signature is repeated."""
    note = notes.parse(GO_NOTE)
    assert names(Note(note.text, note.signatures * 2).verified([notes.parse_key(PETER)])) == ["PeterNeumann"]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name AAAAAQE=",
        "text\n— name AAAAAQE=\n",
        SPEC_NOTE[:-1],
        SPEC_NOTE + "\n",
        SPEC_NOTE + "more\n",
        SPEC_NOTE.replace("— ", "- "),
        SPEC_NOTE.replace("— ", "—\u00a0"),
        SPEC_NOTE.replace("foo U", "foo  U"),
        SPEC_NOTE.replace("/foo", "+foo"),
        SPEC_NOTE.replace("/foo", "\u2003foo"),
        SPEC_NOTE.replace("example.com/foo", ""),
        SPEC_NOTE.replace("aQM=", "aQM"),
        SPEC_NOTE.replace("aQM=", "aQN="),
        SPEC_NOTE.replace("Uw2Q", "Uw2-"),
        SPEC_NOTE.replace("message", "mess\tage"),
        SPEC_NOTE.replace("message", "mess\rage"),
        SPEC_NOTE.replace("foo U", "foo\t U"),
        "text\n\n— name AAAAAQ==\n",
        "text\n\n" + "— name AAAAAQE=\n" * 101,
        b"\xff" + SPEC_NOTE.encode(),
        "x" * 1_048_576 + "\n\n— name AAAAAQE=\n",
    ],
)
def test_what_is_no_note_is_refused(note):
    """Each is one step away from a note."""
    with pytest.raises(ProofError):
        notes.parse(note)


def test_a_text_that_ends_elsewhere_is_another_text():
    """The last empty line ends it: one more is a part of the text, which nobody signed then."""
    note = notes.parse(SPEC_NOTE.replace("\n\n", "\n\n\n"))
    with pytest.raises(ProofError, match="is not over this text"):
        note.verified([notes.parse_key(SPEC_KEY)])


def test_a_note_may_have_empty_lines_and_many_signatures():
    """The last empty line ends the text; a hundred signatures are read."""
    note = "one\n\ntwo\n\n" + "— name AAAAAQE=\n" * 100
    found = notes.parse(note)
    assert (found.text, len(found.signatures)) == ("one\n\ntwo\n", 100)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        SPEC_KEY[:-1],
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY.replace("530d903a", "530D903A"),
        SPEC_KEY.replace("foo", "fooo"),
        SPEC_KEY.replace("example.com/foo", ""),
        SPEC_KEY.replace("/foo", " foo"),
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "name+00000000+AQ==",
    ],
)
def test_what_is_no_key_is_refused(vkey):
    """A key that was not copied whole must not become another key."""
    with pytest.raises(ProofError):
        notes.parse_key(vkey)


@given(st.text(min_size=1), st.sampled_from([ED25519, COSIGNATURE, 0x05]), st.binary(min_size=32, max_size=32))
def test_a_key_reads_back_from_its_text(name, kind, public):
    """Whatever it is called; a name that can't be written is refused when the key is made."""
    try:
        key = Key(name, kind, public)
    except ProofError:
        assert "+" in name or any(each.isspace() or each < " " for each in name)
        return
    assert notes.parse_key(key.vkey) == key
