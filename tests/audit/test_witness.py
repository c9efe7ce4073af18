from __future__ import annotations

import base64
import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle
from audit import note as notes
from audit.anchor import Anchor
from audit.cosignatures import request
from audit.keys import FileSigner, signed
from audit.merkle import Edge
from audit.note import COSIGNATURE, Note
from audit.witness import REQUEST_BYTES, Refused, Witness, create_app, parse_request
from schema.errors import ProofError, SealError, SignerUnavailable

ORIGIN = "simtrail.example/log"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LEAVES = [merkle.leaf_hash(b"%d" % n) for n in range(40)]
OTHERS = [merkle.leaf_hash(b"other %d" % n) for n in range(40)]


def signer(name, seed, kind=1):
    return FileSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), kind)


LOG = signer(ORIGIN, 1)
KEY = signer("witness.example/w", 2, COSIGNATURE)


def node(leaves):
    return lambda height, index: merkle.perfect(leaves[index << height : (index + 1) << height])


def anchor(size, leaves=LEAVES, origin=ORIGIN, by=LOG, extensions=()):
    edge = Edge()
    edge.extend(leaves[:size])
    text = Anchor(origin, size, edge.root(), extensions).text
    return Note(text, (signed(by, text),))


def proof(old, new, leaves=LEAVES):
    return merkle.consistency(old, new, node(leaves))


@pytest.fixture
def witness(tmp_path):
    with Witness(tmp_path / "witness.db", KEY, {ORIGIN: [LOG.key]}, clock=lambda: NOW) as made:
        yield made


@pytest.fixture
def http(witness, calling):
    with calling(create_app(witness)) as client:
        yield client


def post(http, old, note, path):
    return http.post("/add-checkpoint", content=request(old, path, note))


def test_a_witness_cosigns_what_it_can_follow(http):
    """The first anchor, larger ones shown to go on from it, and the same one again."""
    for old, new in ((0, 5), (5, 5), (5, 17), (17, 40)):
        answer = post(http, old, anchor(new), proof(old, new))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        (signature,) = notes.parse_signatures(answer.content)
        assert signature.by(KEY.key)
        assert KEY.key.signed(anchor(new).text, signature.signature)
        assert notes.cosigned_at(signature) == int(NOW.timestamp())
        assert str(Note(anchor(new).text, (*anchor(new).signatures, signature))) == str(anchor(new)) + answer.text


@pytest.mark.parametrize(
    ("old", "note", "path", "status"),
    [
        (0, anchor(9), proof(0, 9), 409),
        (4, anchor(9), proof(4, 9), 409),
        (7, anchor(9), proof(7, 9), 409),
        (10, anchor(9), (), 400),
        (5, anchor(9), (), 422),
        (5, anchor(9), proof(5, 9, OTHERS), 422),
        (5, anchor(9, OTHERS), proof(5, 9, OTHERS), 422),
        (5, anchor(5, OTHERS), (), 409),
        (5, anchor(5), proof(5, 9), 422),
        (5, anchor(4), (), 400),
        (5, anchor(9, origin="simtrail.example/unknown"), proof(5, 9), 404),
        (5, anchor(9, by=signer(ORIGIN, 3)), proof(5, 9), 403),
        (5, anchor(9, by=signer("simtrail.example/other", 1)), proof(5, 9), 403),
    ],
)
def test_a_witness_refuses_all_else(http, old, note, path, status):
    """With the status that the protocol gives each; and goes on from what it last cosigned."""
    assert post(http, 0, anchor(5), ()).status_code == 200
    answer = post(http, old, note, path)
    assert answer.status_code == status
    if status == 409:
        assert (answer.text, answer.headers["content-type"]) == ("5\n", "text/x.tlog.size")
    else:
        assert answer.headers["content-type"] == "application/problem+json"
    assert post(http, 5, anchor(9), proof(5, 9)).status_code == 200


def test_a_false_signature_of_the_logs_key_is_refused(http):
    """Even beside a right one by another key of the log."""
    note = anchor(5)
    false = notes.Signature(LOG.key.name, LOG.key.id, b"x" * 64)
    assert post(http, 0, Note(note.text, (false,)), ()).status_code == 403
    assert post(http, 0, Note(note.text, (false, *note.signatures)), ()).status_code == 403


def test_unknown_signatures_are_passed_over(http):
    """As a note may have those of other keys and algorithms."""
    note = anchor(5)
    strange = notes.Signature("x.example", b"1234", b"whatever")
    assert post(http, 0, Note(note.text, (strange, *note.signatures)), ()).status_code == 200


def test_extension_lines_are_cosigned_with_the_rest(http):
    """They are a part of the text; the witness says nothing about them."""
    note = anchor(5, extensions=("simtrail-key-rotation/v1 key",))
    (signature,) = notes.parse_signatures(post(http, 0, note, ()).content)
    assert KEY.key.signed(note.text, signature.signature)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        b"old 00\n\n" + str(anchor(5)).encode(),
        b"old -1\n\n" + str(anchor(5)).encode(),
        b"old 0\nxyz\n\n" + str(anchor(5)).encode(),
        b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n" + str(anchor(5)).encode(),
        b"size 0\n\n" + str(anchor(5)).encode(),
        b"old 0\n\n" + str(anchor(5)).encode()[:-1],
        b"old 0\n\nno anchor\n\n" + str(anchor(5)).encode().split(b"\n\n")[1],
        b"\xff" * 100,
    ],
)
def test_what_is_no_request_is_refused(http, body):
    """400, with a problem document that says what is wrong."""
    answer = http.post("/add-checkpoint", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_request_that_is_too_large_is_not_read(http):
    """Bytes count as they come."""
    answer = http.post("/add-checkpoint", content=(b"x" * 65_536 for _ in range(REQUEST_BYTES // 65_536 + 2)))
    assert answer.status_code == 413


def test_only_posts_to_the_one_path_are_answered(http):
    """There is nothing else to ask."""
    assert http.get("/add-checkpoint").status_code == 405
    assert http.post("/").status_code == 404


def test_the_specifications_example_of_a_request_is_read():
    """C2SP tlog-witness."""
    body = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
"""
    old, path, note = parse_request(body.encode())
    assert (old, len(path), len(note.signatures)) == (20852014, 4, 2)
    assert request(old, path, note).decode() == body


def test_what_was_cosigned_outlives_the_witness(tmp_path):
    """It is on disk before the answer; a witness started again goes on from it."""
    arguments = (tmp_path / "witness.db", KEY, {ORIGIN: [LOG.key]})
    with Witness(*arguments, clock=lambda: NOW) as witness:
        witness.cosign(0, (), anchor(5))
    with Witness(*arguments, clock=lambda: NOW) as witness:
        with pytest.raises(Refused) as refused:
            witness.cosign(0, (), anchor(9, OTHERS))
        assert (refused.value.status, refused.value.size) == (409, 5)
        witness.cosign(5, proof(5, 9), anchor(9))


def test_of_two_histories_one_is_cosigned_whatever_comes_at_once(witness):
    """The size that is checked and the size that is stored are of one transaction."""
    requests = [(anchor(size, leaves), ()) for size in range(1, 30) for leaves in (LEAVES, OTHERS)]
    cosigned = []
    barrier = threading.Barrier(8)

    def ask(chunk):
        barrier.wait()
        for note, path in chunk:
            try:
                witness.cosign(0, path, note)
            except Refused:
                continue
            cosigned.append(note.text)

    threads = [threading.Thread(target=ask, args=(requests[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cosigned) == 1


def test_logs_are_kept_apart(tmp_path):
    """Each origin has its own size, root and keys."""
    other = signer("simtrail.example/other", 5)
    logs = {ORIGIN: [LOG.key], other.key.name: [other.key]}
    with Witness(tmp_path / "witness.db", KEY, logs, clock=lambda: NOW) as witness:
        witness.cosign(0, (), anchor(5))
        witness.cosign(0, (), anchor(7, OTHERS, other.key.name, other))
        witness.cosign(5, proof(5, 9), anchor(9))
        with pytest.raises(Refused):
            witness.cosign(9, proof(9, 12), anchor(12, by=other))


def test_a_witness_that_can_not_write_or_sign_cosigns_nothing(tmp_path):
    """503: the log asks again later; and nothing was remembered."""

    class Down:
        key = KEY.key
        down = True

        def sign(self, message):
            if self.down:
                msg = "the token is not plugged in"
                raise SignerUnavailable(msg)
            return KEY.sign(message)

    key = Down()
    with Witness(tmp_path / "witness.db", key, {ORIGIN: [LOG.key]}, clock=lambda: NOW) as witness:
        with pytest.raises(Refused, match="not plugged in") as refused:
            witness.cosign(0, (), anchor(5))
        assert refused.value.status == 503
        key.down = False
        other = sqlite3.connect(tmp_path / "witness.db")
        other.execute("CREATE TRIGGER t BEFORE INSERT ON cosigned BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        with pytest.raises(Refused, match="disk full"):
            witness.cosign(0, (), anchor(5))
        other.execute("DROP TRIGGER t")
        other.close()
        assert witness.cosign(0, (), anchor(5)).by(KEY.key)


def test_a_witness_needs_a_key_for_cosignatures(tmp_path):
    """A log's key says another thing under its signatures."""
    with pytest.raises(SealError, match="not one for cosignatures"):
        Witness(tmp_path / "witness.db", LOG, {}, clock=lambda: NOW)
    with pytest.raises(SealError, match="can't be opened"):
        Witness(tmp_path / "none" / "witness.db", KEY, {}, clock=lambda: NOW)


def test_a_request_is_written_as_it_is_read():
    """Whatever proof it has."""
    for old, new in ((0, 5), (5, 17), (16, 32)):
        path = tuple(proof(old, new))
        assert parse_request(request(old, path, anchor(new))) == (old, path, anchor(new))
    with pytest.raises(ProofError):
        parse_request(b"old 1\n\n")
