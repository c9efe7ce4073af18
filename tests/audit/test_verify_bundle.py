"""The verifier that goes with each bundle: it must find everything, and believe nobody."""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import bundle, merkle, proof, verify_bundle
from audit import note as notes
from audit.anchor import ROTATION, Anchor
from audit.keys import FileSigner, signed
from audit.note import COSIGNATURE
from audit.verify_bundle import (
    Failure,
    Folder,
    Key,
    Note,
    Unchecked,
    Zip,
    check_bag,
    check_bundle,
    check_files,
    check_receipt,
    ed25519_verify,
    main,
)
from schema import event
from schema.event import Delivery, WebhookReceived, uuid7

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WITNESS = FileSigner("w.example/w", Ed25519PrivateKey.from_private_bytes(b"\x05" * 32), COSIGNATURE)


def test_it_runs_on_old_pythons_and_imports_the_standard_library_alone():
    """As its head promises: the syntax of 3.9, and no import of ours or anyone's."""
    source = Path(verify_bundle.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {
        *("__future__", "argparse", "base64", "binascii", "collections", "datetime", "hashlib", "json", "os"),
        *("pathlib", "re", "struct", "sys", "typing", "zlib"),
    }


# Ed25519

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_signatures_are_verified_as_rfc_8032_has_them(public, message, signature):
    """The first vectors of §7.1; and with any part changed, none."""
    key, data, signed = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519_verify(key, data, signed)
    assert not ed25519_verify(key, data + b"x", signed)
    for at in (0, 31, 32, 63):
        assert not ed25519_verify(key, data, bytes([*signed[:at], signed[at] ^ 1, *signed[at + 1 :]]))
    order = verify_bundle.ORDER + int.from_bytes(signed[32:], "little")
    assert not ed25519_verify(key, data, signed[:32] + order.to_bytes(32, "little"))
    assert not ed25519_verify(key, data, signed[:-1])
    assert not ed25519_verify(key[:-1], data, signed)
    assert not ed25519_verify(b"\xff" * 32, data, signed)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 64 * 8 - 1), st.booleans())
def test_signatures_are_verified_as_openssl_does(seed, message, bit, change):
    """Whatever key and message, and whichever bit of the signature is changed."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    signature = bytearray(private.sign(message))
    if change:
        signature[bit // 8] ^= 1 << bit % 8
    public = private.public_key()
    assert ed25519_verify(public.public_bytes_raw(), message, bytes(signature)) is not change
    assert openssl(public, bytes(signature), message) is not change


def openssl(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


# The tree, beside the one that makes it


@given(st.integers(1, 300), st.data())
def test_proofs_are_verified_as_those_who_make_them_do(size, data):
    """Two implementations, one answer; for right proofs and wrong ones."""
    leaves = [hashlib.sha256(b"%d" % n).digest() for n in range(size)]

    def node(height: int, index: int) -> bytes:
        return merkle.perfect(leaves[index << height : (index + 1) << height])

    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size))
    root = merkle.root(size, node)
    for path in (merkle.inclusion(index, size, node), data.draw(st.lists(st.sampled_from(leaves), max_size=10))):
        told = verify_bundle.included(leaves[index], index, size, path, root)
        assert told == merkle.included(leaves[index], index, size, path, root)
        assert verify_bundle.included(leaves[index], other, size, path, root) == merkle.included(
            leaves[index], other, size, path, root
        )
    before = merkle.root(other, node)
    for path in (merkle.consistency(other, size, node), data.draw(st.lists(st.sampled_from(leaves), max_size=10))):
        told = verify_bundle.consistent(other, before, size, root, path)
        assert told == merkle.consistent(other, before, size, root, path)
    assert verify_bundle.consistent(other, before, size, root, merkle.consistency(other, size, node))
    edge = verify_bundle.Edge(0, [])
    for leaf in leaves:
        edge.add(0, leaf)
    assert edge.root() == root
    assert list(verify_bundle.subtrees(other, size)) == [height for height, _ in merkle.subtrees(other, size)]


@given(
    st.builds(
        Delivery,
        received_at=st.text(max_size=40),
        source=st.text(max_size=300),
        remote=st.text(max_size=10),
        headers=st.dictionaries(st.text(max_size=5), st.text(max_size=40), max_size=20),
        body=st.binary(max_size=300),
    ),
)
def test_an_events_state_is_read_as_it_was_written(delivery):
    """The small reader of MessagePack reads all that an envelope can hold."""
    state = event.encode(delivery)
    found, end = verify_bundle.unpack(state, 0)
    assert end == len(state)
    assert found == {
        "v": 1,
        "received_at": delivery.received_at,
        "source": delivery.source,
        "remote": delivery.remote,
        "headers": delivery.headers,
        "body": delivery.body,
    }


@pytest.mark.parametrize("size", [10, 300, 70_000])
def test_long_values_of_a_state_are_read(size):
    """Of every length that the format writes in another way."""
    delivery = Delivery("t" * size, "s", "r", {str(n): "" for n in range(min(size, 300))}, b"b" * size)
    found, _ = verify_bundle.unpack(event.encode(delivery), 0)
    assert (found["body"], found["received_at"], found["headers"]) == (
        delivery.body,
        delivery.received_at,
        delivery.headers,
    )


# Bundles that were touched


@pytest.fixture
def evidence(made):
    """A small bundle, with everything that one can have."""
    made.sealed(2)
    made.receive(b"{}", b'{"a":1}')
    made.seal()
    text = made.seals.note(4).text
    signature = (1_800_000_000).to_bytes(8, "big") + WITNESS.sign(notes.cosigned(text, 1_800_000_000))
    made.seals.add_signature(4, WITNESS.key, "witness", signature, now=NOW)
    for size in (2, 4):
        made.seals.add_timestamp(size, stamp_of(made, size), now=NOW)
    target = made.folder / "evidence"
    bundle.write(target, made.log, made.seals, first=3, last=4, made_by="simtrail 0.1.0", now=NOW)
    return target


def stamp_of(made, size: int) -> bytes:
    """What a time-stamp has that this verifier looks at: the hash of an anchor's text."""
    return b"DER" + hashlib.sha256(made.seals.note(size).text.encode()).digest()


class InMemory(Folder):
    """The files of a bundle, as the verifier sees them."""

    def __init__(self, folder) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        self.names = set(self.contents)

    def chunks(self, name):
        """A file's content, in parts."""
        return [self.contents[name]]


def flipped(content: bytes, at: int) -> bytes:
    return bytes([*content[:at], content[at] ^ (1 << at % 8), *content[at + 1 :]])


def test_every_byte_of_a_bundle_counts(evidence):
    """Each byte of each file flipped, one at a time: the list of files does not hold, and the file is named."""
    files = InMemory(evidence)
    assert check_bag(files) == 14
    count = 0
    for name, content in list(files.contents.items()):
        # The verifier itself is a file like any; its bytes are many.
        for at in range(0, len(content), 11 if name == "verify.py" else 1):
            files.contents[name] = flipped(content, at)
            with pytest.raises(Failure) as failure:
                check_bag(files)
            assert name in str(failure.value) or "manifest-sha256.txt" in name, (name, at)
            count += 1
        files.contents[name] = content
    assert count > 5_000
    assert check_bag(files) == 14


@pytest.mark.parametrize(
    "name", ["data/events.ndjson", "data/anchors/last.txt", "README.txt", "tagmanifest-sha256.txt"]
)
def test_a_bundle_with_a_byte_changed_fails(evidence, capsys, name):
    """As a whole, as people run it; and not, once it is as it was."""
    content = (evidence / name).read_bytes()
    (evidence / name).write_bytes(flipped(content, len(content) // 2))
    assert main([str(evidence)]) == 1
    assert name in capsys.readouterr().out
    (evidence / name).write_bytes(content)
    assert main([str(evidence)]) == 0


def test_every_byte_of_a_packed_bundle_counts(evidence, made):
    """Also those of the zip format itself, which a reader of zip files would pass over."""
    packed = made.folder / "evidence.zip"
    bundle.pack(evidence, packed)
    content = packed.read_bytes()
    check_bundle(packed, [], [], [])
    starts = [place[0] for place in Zip(packed).places.values()]
    end = content.index(b"PK\x01\x02")
    headers = {at for start in starts for at in range(start - 80, start) if at >= 0}
    for at in sorted({*headers, *range(end, len(content)), *range(0, len(content), 101)}):
        packed.write_bytes(flipped(content, at))
        with pytest.raises(Failure):
            check_bag(Zip(packed))
    for changed in (content + b"x", b"x" + content, content[:-1], content[: len(content) // 2], b""):
        packed.write_bytes(changed)
        with pytest.raises(Failure):
            check_bundle(packed, [], [], [])


@pytest.mark.parametrize(
    "name", ["data/events.ndjson", "data/keys.json", "bagit.txt", "manifest-sha256.txt", "verify.py"]
)
def test_a_file_that_is_missing_is_named(evidence, name):
    """Removed, whatever it is."""
    (evidence / name).unlink()
    with pytest.raises(Failure, match=name.replace(".", r"\.")):
        check_bundle(evidence, [], [], [])


@pytest.mark.parametrize("name", ["data/more.txt", "more.txt", "data/tables/more.csv"])
def test_a_file_that_was_put_in_is_named(evidence, name):
    """Nothing is in a bundle that it does not list."""
    (evidence / name).parent.mkdir(exist_ok=True)
    (evidence / name).write_text("x")
    with pytest.raises(Failure, match=f"^{name}: is there, but"):
        check_bundle(evidence, [], [], [])


def test_a_link_is_no_file(evidence):
    """What it points to is not in the bundle."""
    (evidence / "data" / "link").symlink_to("/etc/hostname")
    with pytest.raises(Failure, match="data/link: is a link"):
        check_bundle(evidence, [], [], [])


# Bundles that were made to look right


def relist(target):
    """List the files anew, as a forger would."""
    bundle._write_manifest(
        target, "manifest-sha256.txt", [path for path in (target / "data").rglob("*") if path.is_file()]
    )
    (target / "tagmanifest-sha256.txt").unlink()
    bundle._write_manifest(target, "tagmanifest-sha256.txt", [path for path in target.iterdir() if path.is_file()])


def edit(target, name, change):
    path = target / "data" / name
    path.write_text(change(path.read_text()))
    relist(target)


def edit_events(target, change):
    def changed(text):
        events = [json.loads(line) for line in text.splitlines()]
        return "".join(json.dumps(each) + "\n" for each in change(events))

    edit(target, "events.ndjson", changed)


def edit_json(target, name, change):
    def changed(text):
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    edit(target, name, changed)


def with_state(each, state, *, leaf=True):
    """An event with another state, and a leaf that binds it."""
    found = dict(each, state=base64.b64encode(state).decode())
    if leaf:
        data = base64.b64decode(each["leaf"])
        body = hashlib.sha256(event.decode(state).body).digest()
        found["leaf"] = base64.b64encode(data[:-64] + hashlib.sha256(state).digest() + body).decode()
    return found


def other_state(each, **changes: Any):
    delivery = event.decode(base64.b64decode(each["state"]))
    fields = {name: getattr(delivery, name) for name in ("received_at", "source", "remote", "headers", "body")}
    return event.encode(Delivery(**{**fields, **changes}))


FORGERIES = {
    "another body": (
        lambda e: [with_state(e[0], other_state(e[0], body=b"{1}"), leaf=False), e[1]],
        "position 3: the event is not the one in its leaf",
    ),
    "another body and leaf": (
        lambda e: [with_state(e[0], other_state(e[0], body=b"{1}")), e[1]],
        "position 3: is not in the anchor's tree",
    ),
    "another header": (
        lambda e: [e[0], with_state(e[1], other_state(e[1], headers={}))],
        "position 4: is not in the anchor's tree",
    ),
    "another time": (
        lambda e: [e[0], with_state(e[1], other_state(e[1], received_at="2020-01-01T00:00:00.000000Z"))],
        "position 4: is not in the anchor's tree",
    ),
    "no content where there was one": (lambda e: [dict(e[0], state=""), e[1]], "position 3: the event is not the one"),
    "out of order": (lambda e: e[::-1], "position 4: is not in its place"),
    "numbered anew": (
        lambda e: [dict(e[1], index=2), dict(e[0], index=3)],
        "position 4: is not in the anchor's tree",
    ),
    "another position": (lambda e: [dict(e[0], position=2), e[1]], "position 3: is not in its place"),
    "twice": (lambda e: [e[0], e[0], e[1]], "position 3: is not in its place"),
    "the last left out": (lambda e: e[:1], "data/bundle.json: names another range than positions 3 to 3"),
    "the first left out": (lambda e: e[1:], "position 4: is not in its place"),
    "all left out": (lambda _: [], "data/bundle.json: names another range"),
    "no path": (lambda e: [dict(e[0], path=[]), e[1]], "position 3: is not in the anchor's tree"),
    "no event": (lambda e: [*e, {"position": 5}], "data/events.ndjson, leaf 4: is no event"),
    "no number": (lambda e: [dict(e[0], index=2.0), e[1]], "data/events.ndjson, leaf 2: has no numbers"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_events_that_were_forged_are_found_by_position(evidence, name):
    """With all files listed anew, so that only the proofs can tell."""
    change, told = FORGERIES[name]
    edit_events(evidence, change)
    with pytest.raises(Failure) as failure:
        check_bundle(evidence, [], [], [])
    assert str(failure.value).startswith(told)


def test_a_range_can_not_be_made_to_look_complete(evidence):
    """One event less, and every number made to fit: the tree is another."""
    edit_events(evidence, lambda e: e[:1])

    def shorter(about):
        about["range"].update(last_position=3, events=1)

    edit_json(evidence, "bundle.json", shorter)
    with pytest.raises(Failure, match="does not have the tree right of the range"):
        check_bundle(evidence, [], [], [])
    leaf = hashlib.sha256(b"anything").digest()
    edit_json(evidence, "proofs.json", lambda p: p.update(right=[base64.b64encode(leaf).decode()]))
    with pytest.raises(Failure, match=r"data/events\.ndjson: these events.*some are left out or put in"):
        check_bundle(evidence, [], [], [])


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("anchors/last.txt", lambda t: t.replace("\n4\n", "\n5\n"), "bundle.json: names other anchors"),
        ("anchors/first.txt", lambda t: re.sub("\n(.)(.*=)\n\n", r"\n\2\1\n\n", t), "first.txt: "),
        ("anchors/last.txt", lambda t: t.replace("\n4\n", "\n04\n"), "last.txt: there is no number"),
        ("anchors/last.txt", lambda t: "\n".join([*t.split("\n")[:4], ""]), "last.txt: is no signed note"),
        ("anchors/last.txt", lambda t: t.replace("— simtrail", "— other"), "last.txt: is not signed by the log's key of its time"),
        ("anchors/last.txt", lambda t: t.replace("simtrail.example", "other.example", 1), "last.txt: is an anchor of other"),
        ("anchors/last.txt", lambda t: t.replace("w.example/w ", "w.example/w A"), "last.txt: there is no base64"),
        ("bundle.json", lambda t: t.replace('"last_anchor": 4', '"last_anchor": 5'), "bundle.json: names other anchors"),
        ("bundle.json", lambda t: t.replace('"first_anchor": 2', '"first_anchor": null'), "bundle.json: names other anchors"),
        ("bundle.json", lambda t: t.replace("evidence/v1", "evidence/v2"), "bundle.json: is not of the format"),
        ("bundle.json", lambda t: t.replace('"first_index": 2', '"first_index": 3'), "proofs.json: does not have the tree left"),
        ("bundle.json", lambda t: t.replace('"first_index": 2', '"first_index": -2'), "bundle.json: names no range"),
        ("bundle.json", lambda t: t.replace('"first_position": 3', '"first_position": 2'), "bundle.json: names another range"),
        ("bundle.json", lambda t: t.replace('"events": 2', '"events": 3'), "bundle.json: names another range"),
        ("bundle.json", lambda _: "[]", "bundle.json: is no JSON object"),
        ("bundle.json", lambda _: "{", "bundle.json: is no JSON"),
        ("keys.json", lambda _: '{"keys": []}', "keys.json: has no key of the log"),
        ("keys.json", lambda _: '{"keys": 1}', "keys.json: has no keys"),
        ("keys.json", lambda t: t.replace('"log"', '"witness"'), "keys.json: has no key of the log"),
        ("proofs.json", lambda _: '{"left": [], "right": [], "consistency": []}', "proofs.json: the first anchor's tree"),
        ("proofs.json", lambda t: t.replace("left", "lift"), "proofs.json: a list of hashes is missing"),
        ("events.ndjson", lambda t: t.replace("\n", " ", 1), "leaf 2: is no event"),
        ("events.ndjson", lambda t: t[:-1], "events.ndjson: does not end in a newline"),
        ("events.ndjson", lambda t: t + "\n", "leaf 4: is no event"),
    ],
)  # fmt: skip
def test_anchors_keys_and_proofs_that_were_forged_are_found(evidence, name, change, told):
    """With all files listed anew."""
    before = (evidence / "data" / name).read_text()
    edit(evidence, name, change)
    assert (evidence / "data" / name).read_text() != before
    with pytest.raises(Failure) as failure:
        check_bundle(evidence, [], [], [])
    assert told in str(failure.value)


def test_consistency_of_the_anchors_must_be_shown(evidence):
    """A first anchor of another history, signed by the same key, is noticed."""
    edit_json(evidence, "proofs.json", lambda p: p.update(consistency=[]))
    with pytest.raises(Failure, match="the first anchor's tree is not shown to be the beginning"):
        check_bundle(evidence, [], [], [])


def test_a_whole_forged_history_needs_the_logs_key(evidence, installation, made):
    """Made with another key it looks right by itself: what tells is the key that one knows."""
    forger = installation()
    forger.receive(b"forged", b"forged", b"forged", b"forged")
    forger.seal()
    target = forger.folder / "evidence"
    bundle.write(target, forger.log, forger.seals, first=3, last=4, made_by="simtrail 0.1.0", now=NOW)
    assert forger.signer.key.name == made.signer.key.name
    forger.close()
    assert any("log's key" in each for each in check_bundle(target, [], [], []).open)
    known = Key(made.signer.key.vkey, "--key")
    with pytest.raises(Failure, match="none of the log's keys is one that you gave"):
        check_bundle(target, [known], [], [])
    assert not any("log's key" in each for each in check_bundle(evidence, [known], [], []).open)


def test_a_key_that_nobody_introduced_does_not_follow_the_logs(evidence, made):
    """Whatever is shown as its introduction: an anchor without it, one that names it and that only it signed."""
    own = FileSigner(made.origin, Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    path = evidence / "data" / "keys.json"
    rows = json.loads(path.read_text())["keys"]
    claim = Anchor(made.origin, 2, bytes(32), (ROTATION + own.key.vkey,)).text
    plain = made.seals.note(2)
    for introduced in (
        str(plain),
        str(notes.Note(plain.text, (*plain.signatures, signed(own, plain.text)))),
        str(notes.Note(claim, (signed(own, claim),))),
        str(notes.Note(claim, (signed(made.signer, claim),))),
    ):
        forged = {"role": "log", "vkey": own.key.vkey, "since_size": 2, "introduced": introduced}
        path.write_text(json.dumps({"keys": [rows[0], forged, *rows[1:]]}))
        with pytest.raises(Failure, match=re.escape(f"the key {own.key.vkey} was not introduced by")):
            check_files(Folder(evidence), [], [], [])


def test_a_witness_that_is_known_is_told_from_one_that_only_the_bundle_knows(evidence):
    """What a bundle says of its witnesses' keys proves nothing by itself."""
    checked = check_bundle(evidence, [], [], [])
    assert any("cosigned by w.example/w, by the key" in each for each in checked.proven)
    assert any("That the key of w.example/w is that witness's" in each for each in checked.open)
    checked = check_bundle(evidence, [], [Key(WITNESS.key.vkey, "--witness")], [])
    assert any(
        "cosigned by w.example/w, whose key you gave,\n  at 2027-01-15 08:00:00 UTC" in each for each in checked.proven
    )
    other = FileSigner("w.example/w", Ed25519PrivateKey.from_private_bytes(b"\x06" * 32), COSIGNATURE)
    checked = check_bundle(evidence, [], [Key(other.key.vkey, "--witness")], [])
    assert any("That w.example/w has seen the anchor of size 4: it did not" in each for each in checked.open)


def test_time_stamps_are_named_and_left_to_those_who_can_check_them(evidence, made):
    """With what openssl is to be asked; by simtrail, which has certificates, they are checked and their time is told."""
    left_open = " ".join(check_bundle(evidence, [], [], []).open)
    digest = hashlib.sha256(made.seals.note(4).text.encode()).hexdigest()
    assert f"openssl ts -verify -digest {digest} -in data/anchors/last.tsr -CAfile CERTIFICATES" in left_open
    assert "the anchor of size 2 was there at the time in its time-stamp" in left_open

    asked = []

    def check(name, token, text):
        asked.append((name, token, text))
        return NOW

    checked = check_bundle(evidence, [], [], [], check)
    assert "time-stamp" not in " ".join(checked.open)
    assert [each for each in checked.proven if "time-stamped" in each] == [
        f"The anchor of size {size} is time-stamped by an authority whose certificates you gave,\n  at 2026-05-01 00:00:00 UTC."
        for size in (4, 2)
    ]
    assert asked == [
        (f"data/anchors/{name}.tsr", stamp_of(made, size), made.seals.note(size).text)
        for name, size in (("last", 4), ("first", 2))
    ]


def test_a_time_stamp_of_another_anchor_is_found(evidence, made):
    """Without any certificate."""
    (evidence / "data" / "anchors" / "last.tsr").write_bytes(stamp_of(made, 2))
    with pytest.raises(Failure, match=r"last\.tsr: is no time-stamp of the anchor beside it"):
        check_files(Folder(evidence), [], [], [])


def test_anchors_that_were_kept_are_compared(made, evidence):
    """At the sizes of the bundle's anchors, and at every size in its range."""
    made.sealed(2)
    made.receive(b"x")
    made.sealed(1, 4)
    target = made.folder / "more"
    bundle.write(target, made.log, made.seals, first=4, last=9, made_by="simtrail 0.1.0", now=NOW)
    for size, compared in ((2, True), (4, True), (6, True), (8, True), (12, True)):
        kept = Note(str(made.seals.note(size)).encode(), "kept.txt")
        checked = check_bundle(target, [], [], [kept])
        assert any("the anchor that you kept" in each for each in checked.proven) is compared
    outside = Note(str(made.seals.note(12)).encode(), "kept.txt")
    assert any("is outside this bundle's range" in each for each in check_bundle(evidence, [], [], [outside]).open)


def test_a_kept_anchor_of_another_history_is_found(made, evidence):
    """Signed by the same key: the log showed two histories."""
    text = made.seals.anchor(4, bytes(32)).text
    signature = notes.Signature(made.signer.key.name, made.signer.key.id, made.signer.sign(text.encode()))
    forged = Note(str(notes.Note(text, (signature,))).encode(), "kept.txt")
    with pytest.raises(Failure, match=r"kept\.txt: is of another history than this bundle, at size 4"):
        check_bundle(evidence, [], [], [forged])


def test_content_that_was_destroyed_leaves_the_proofs(evidence):
    """An event without its state is proven by its envelope, and that is told."""
    edit_events(evidence, lambda e: [dict(e[0], state=None), e[1]])
    checked = check_bundle(evidence, [], [], [])
    assert any("The content of 1 events: it is not in the bundle" in each for each in checked.open)


def nodes(value, path=()):
    """The places in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from nodes(inner, (*path, key))


def put(value, path, other):
    if not path:
        return other
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = put(value[path[0]], path[1:], other)
    return copied


STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("AAAA") | st.just(""),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def test_whatever_stands_in_a_bundle_it_holds_or_fails(evidence):
    """Any value in any place of any document: never anything but an answer."""
    files = InMemory(evidence)
    names = ["data/bundle.json", "data/keys.json", "data/proofs.json", "data/events.ndjson"]
    found = {name: [json.loads(each) for each in files.contents[name].split(b"\n\n")] for name in names[:3]}
    found[names[3]] = [json.loads(each) for each in files.contents[names[3]].splitlines()]

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def check(data):
        name = data.draw(st.sampled_from(names))
        documents = list(found[name])
        at = data.draw(st.integers(0, len(documents) - 1))
        place = data.draw(st.sampled_from(list(nodes(documents[at]))))
        documents[at] = put(documents[at], place, data.draw(STRANGE))
        changed = InMemory(evidence)
        changed.contents[name] = b"".join(json.dumps(each).encode() + b"\n" for each in documents)
        with contextlib.suppress(Failure):
            check_files(changed, [], [], [])

    check()


# Receipts, and the command line


def test_a_receipt_is_checked_with_the_logs_key(made, tmp_path):
    """By the same file, without a bundle."""
    made.sealed(5)
    path = tmp_path / "3.tlog-proof"
    path.write_text(str(proof.receipt(made.log, made.seals, 3)))
    key = Key(made.signer.key.vkey, "--key")
    proven, _ = check_receipt(path, [key], [])
    delivery = made.log.at(3).delivery
    assert f"Position 3 is in the log, received at {delivery.received_at} from main" in proven[-1]
    assert hashlib.sha256(delivery.body).hexdigest() in proven[-1]
    with pytest.raises(Unchecked, match="give it with --key"):
        check_receipt(path, [], [])
    text = path.read_bytes()
    for at in range(0, len(text), 7):
        path.write_bytes(flipped(text, at))
        with pytest.raises(Failure):
            check_receipt(path, [key], [])


def test_a_receipt_is_checked_with_the_key_of_its_log(made, tmp_path):
    """Of several keys, one that is the log's; none of another log's."""
    made.sealed(2)
    path = tmp_path / "1.tlog-proof"
    path.write_text(str(proof.receipt(made.log, made.seals, 1)))
    key, other = Key(made.signer.key.vkey, "--key"), Key(WITNESS.key.vkey, "--key")
    assert check_receipt(path, [other, key], []) == check_receipt(path, [key], [])
    with pytest.raises(Failure, match="not signed by a key that you gave"):
        check_receipt(path, [other], [])


def test_what_a_sender_named_can_only_be_read(made, tmp_path, capsys):
    """Neither lines nor commands to the terminal of whoever checks."""
    delivery = Delivery("2026-05-01T00:00:00.000000Z", "\x1b[31m\nEverything", "", {}, b"")
    made.appender.append([WebhookReceived(uuid7(NOW, made.entropy), 1, delivery)])
    made.seal()
    path = tmp_path / "1.tlog-proof"
    path.write_text(str(proof.receipt(made.log, made.seals, 1)))
    assert main([str(path), "--key", made.signer.key.vkey]) == 0
    assert "from ?[31m?Everything;" in capsys.readouterr().out


def test_the_command_says_in_words_what_holds(evidence, made, capsys, tmp_path):
    """0 where all does, 1 where anything does not, 2 where that can't be told, in one sentence each."""
    assert main([str(evidence), "--key", made.signer.key.vkey, "--witness", WITNESS.key.vkey]) == 0
    told = capsys.readouterr().out
    assert "The log's key is the one that you gave" in told
    assert told.endswith("Everything that was checked holds.\n")
    (tmp_path / "kept.txt").write_text(str(made.seals.note(2)))
    assert main([str(evidence), "--anchor", str(tmp_path / "kept.txt")]) == 0
    assert "kept.txt, the anchor that you kept, is of the same history" in capsys.readouterr().out
    assert main([str(evidence), "--receipt", "3"]) == 0
    receipt = capsys.readouterr().out
    (tmp_path / "r.tlog-proof").write_text(receipt)
    assert main([str(tmp_path / "r.tlog-proof"), "--key", made.signer.key.vkey]) == 0
    capsys.readouterr()
    mistyped = made.signer.key.vkey.replace(made.signer.key.id.hex(), "00000000")
    for wrong, said in (
        ([evidence, "--key", mistyped], "is not that of its name and key"),
        ([evidence, "--witness", "nonsense"], "--witness: 'nonsense' is no public key"),
        ([tmp_path / "none"], "can't be read: No such file"),
        ([evidence, "--anchor", tmp_path / "none"], "can't be read: No such file"),
        ([tmp_path / "r.tlog-proof"], "r.tlog-proof: a receipt is checked with the log's key"),
    ):
        assert main([str(word) for word in wrong]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.startswith("NOT CHECKED: "), said in told.err) == ("", True, True)
    (evidence / "README.txt").write_text("x")
    assert main([str(evidence)]) == 1
    told = capsys.readouterr().out
    assert told.startswith("FAILED\n\nREADME.txt: is not the file that tagmanifest-sha256.txt lists")


def test_a_bundle_may_lie_anywhere(evidence, tmp_path):
    """Its name and place are no part of it."""
    shutil.copytree(evidence, tmp_path / "elsewhere" / "renamed")
    assert check_bundle(tmp_path / "elsewhere" / "renamed", [], [], []).proven
