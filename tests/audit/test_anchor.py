from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit import anchor as anchors
from audit.anchor import Anchor
from audit.keys import FileSigner, signed
from audit.note import COSIGNATURE, Note, Signature, cosigned
from schema.errors import ProofError

SPEC_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
"""C2SP tlog-checkpoint, the specification's own example."""

ORIGIN = "simtrail.example/log"


def signer(name: str, seed: int, kind: int = 1) -> FileSigner:
    return FileSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), kind)


def note(anchor: Anchor, *signers: FileSigner) -> Note:
    return Note(anchor.text, tuple(signed(each, anchor.text) for each in signers))


def test_the_specifications_example_is_read_and_written():
    """Byte for byte."""
    found = anchors.parse(SPEC_TEXT)
    assert (found.origin, found.size, found.extensions) == ("example.com/behind-the-sofa", 20852163, ())
    assert found.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert found.text == SPEC_TEXT


@given(
    st.integers(0, (1 << 63) - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text("ab ", min_size=1), max_size=2).map(tuple),
)
def test_an_anchor_reads_back_from_its_text(size, root, extensions):
    """Of any size, with any extensions."""
    anchor = Anchor(ORIGIN, size, root, extensions)
    assert anchors.parse(anchor.text) == anchor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n",
        SPEC_TEXT[:-1],
        SPEC_TEXT + "\n",
        SPEC_TEXT + "extension",
        SPEC_TEXT + "\nextension\n",
        "\n" + SPEC_TEXT,
        SPEC_TEXT.replace("20852163", "020852163"),
        SPEC_TEXT.replace("20852163", "-1"),
        SPEC_TEXT.replace("20852163", "+1"),
        SPEC_TEXT.replace("20852163", "1_0"),
        SPEC_TEXT.replace("20852163", "٣"),
        SPEC_TEXT.replace("20852163", str(1 << 63)),
        SPEC_TEXT.replace("20852163", "9" * 5_000),
        SPEC_TEXT.replace("q2I=", "q2J="),
        SPEC_TEXT.replace("q2I=", ""),
        SPEC_TEXT.replace("CsUY", "AAAACsUY"),
    ],
)
def test_what_is_no_anchor_is_refused(text):
    """Each is one step away from one."""
    with pytest.raises(ProofError):
        anchors.parse(text)


def test_an_anchor_counts_by_its_logs_signature():
    """Whoever else signs is told with it."""
    log, witness = signer(ORIGIN, 1), signer("witness.example/w", 2, COSIGNATURE)
    anchor = Anchor(ORIGIN, 3, bytes(32))
    found, signers = anchors.opened(note(anchor, log), [log.key, witness.key])
    assert found == anchor
    assert [key for key, _ in signers] == [log.key]


@pytest.mark.parametrize(
    "strangers",
    [
        [signer("simtrail.example/other", 1)],
        [signer(ORIGIN, 2)],
        [signer(ORIGIN, 1, COSIGNATURE)],
    ],
    ids=["another log's name", "another key", "as a witness"],
)
def test_an_anchor_that_its_log_did_not_sign_counts_for_nothing(strangers):
    """Another log's key, another key of that name, or the log's as a witness's are not the log's key."""
    known = [signer(ORIGIN, 1).key, signer("simtrail.example/other", 1).key, signer(ORIGIN, 1, COSIGNATURE).key]
    with pytest.raises(ProofError, match=r"not signed by a known key of that log|is not over this text"):
        anchors.opened(note(Anchor(ORIGIN, 3, bytes(32)), *strangers), known)


def test_a_known_key_that_is_not_the_logs_does_not_help():
    """It has to be of the origin's name, and of the kind that signs anchors."""
    other = signer("simtrail.example/other", 1)
    with pytest.raises(ProofError, match="not signed by a known key of that log"):
        anchors.opened(note(Anchor(ORIGIN, 3, bytes(32)), other), [other.key])
    witness = signer(ORIGIN, 1, COSIGNATURE)
    text = Anchor(ORIGIN, 3, bytes(32)).text
    cosignature = Signature(ORIGIN, witness.key.id, (7).to_bytes(8, "big") + witness.sign(cosigned(text, 7)))
    assert Note(text, (cosignature,)).verified([witness.key])
    with pytest.raises(ProofError, match="not signed by a known key of that log"):
        anchors.opened(Note(text, (cosignature,)), [witness.key])


def test_an_anchor_introduces_a_key_by_its_extension():
    """One line, in a form that nothing else has; any other extension is not guessed at."""
    key = signer(ORIGIN, 2).key
    assert anchors.introduced(Anchor(ORIGIN, 3, bytes(32))) is None
    assert anchors.introduced(Anchor(ORIGIN, 3, bytes(32), (anchors.ROTATION + key.vkey,))) == key
    for extensions in (("other",), (anchors.ROTATION + key.vkey, "other"), (anchors.ROTATION + "none",)):
        with pytest.raises(ProofError):
            anchors.introduced(Anchor(ORIGIN, 3, bytes(32), extensions))
