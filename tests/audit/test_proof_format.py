"""docs/proof-format.md: what it shows is what is made."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import leaf, merkle, proof, verify_bundle
from audit.anchor import ROTATION, Anchor
from audit.keys import FileSigner, signed
from audit.note import COSIGNATURE, Note, Signature, cosigned
from audit.proof import Receipt
from schema import event
from schema.event import TOPIC, Delivery

DOCUMENT = (Path(__file__).parents[2] / "docs" / "proof-format.md").read_text()
BLOCKS = [textwrap.dedent(block).strip("\n") for block in re.findall(r"(?:^(?:    .*)?\n)+", DOCUMENT, re.MULTILINE)]

JSON = {"content-type": "application/json"}
ROWS = [
    (position, TOPIC.encode(), event.encode(delivery))
    for position, delivery in enumerate(
        [
            Delivery("2026-03-02T09:00:00.000000Z", "main", "127.0.0.1", JSON, b'{"a":0}'),
            Delivery("2026-03-02T09:00:01.000000Z", "main", "127.0.0.1", JSON, b'{"a":1}\xff'),
            Delivery("2026-03-02T09:00:02.000000Z", "other", "127.0.0.1", {}, b""),
        ],
        1,
    )
]
HASHES = [leaf.hash_of(row) for row in ROWS]
LOG = FileSigner("simtrail.example/log", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
WITNESS = FileSigner("witness.example/w", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32), COSIGNATURE)
COSIGNED_AT = 1772442005


def node(height, index):
    return merkle.perfect(HASHES[index << height : (index + 1) << height])


def anchor():
    text = Anchor("simtrail.example/log", 3, merkle.root(3, node)).text
    time = COSIGNED_AT.to_bytes(8, "big")
    cosignature = Signature(WITNESS.key.name, WITNESS.key.id, time + WITNESS.sign(cosigned(text, COSIGNED_AT)))
    return Note(text, (signed(LOG, text), cosignature))


def receipt():
    return Receipt(leaf.encode(leaf.of(ROWS[1])), 1, tuple(merkle.inclusion(1, 3, node)), anchor())


def digits():
    return [block.replace("\n", "") for group in BLOCKS for block in group.split("\n\n")]


@pytest.mark.parametrize(
    "shown",
    [ROWS[1][2], leaf.encode(leaf.of(ROWS[1])), HASHES[1], HASHES[0] + HASHES[2], merkle.root(3, node)],
    ids=["state", "leaf", "hash", "others", "root"],
)
def test_the_bytes_shown_are_those_made(shown):
    """The event as stored, its leaf, the hashes and the root."""
    assert shown.hex() in digits()


@pytest.mark.parametrize(
    "shown",
    [f"{LOG.key.vkey}\n{WITNESS.key.vkey}", f"{ROTATION}<the next key>", str(anchor()), str(receipt())],
    ids=["keys", "rotation", "anchor", "receipt"],
)
def test_the_texts_shown_are_those_made(shown):
    """Keys, anchor and receipt, as they are given out."""
    assert shown.strip("\n") in BLOCKS


def test_the_receipt_shown_is_one(tmp_path):
    """For those who make receipts, and for the verifier that goes with bundles."""
    shown = next(block for block in BLOCKS if block.startswith("c2sp.org/tlog-proof"))
    found, _, signatures = proof.parse(f"{shown}\n").verified([LOG.key, WITNESS.key])
    assert (found.position, [key for key, _ in signatures]) == (2, [LOG.key, WITNESS.key])
    (tmp_path / "2.tlog-proof").write_text(f"{shown}\n")
    keys = [verify_bundle.Key(LOG.key.vkey, "--key")]
    proven, _ = verify_bundle.check_receipt(tmp_path / "2.tlog-proof", keys, [])
    assert "Position 2 is in the log" in proven[-1]


@pytest.mark.parametrize("name", ["ABOUT", "KEYS", "PROOFS", "EVENTS", "FIRST", "LAST", "FORMAT"])
def test_the_files_of_a_bundle_are_described(name):
    """Under the names that they have."""
    assert f"`{getattr(verify_bundle, name)}`" in DOCUMENT
