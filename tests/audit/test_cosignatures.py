from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import cosignatures
from audit import note as notes
from audit.cosignatures import ask, keep
from audit.keys import FileSigner
from audit.note import COSIGNATURE
from audit.sealing import Cosigner
from audit.witness import Witness, create_app

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def signer(name, seed, kind=COSIGNATURE):
    return FileSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), kind)


KEY = signer("witness.example/w", 2)
COSIGNER = Cosigner(KEY.key, "http://witness.example/")


@pytest.fixture
def witness(tmp_path, made):
    with Witness(tmp_path / "witness.db", KEY, {made.origin: [made.signer.key]}, clock=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def http(witness, calling):
    with calling(create_app(witness)) as client:
        yield client


def answering(status, content=b"", media_type="text/plain"):
    """A witness that answers all requests alike."""
    return httpx.Client(
        transport=httpx.MockTransport(
            lambda _: httpx.Response(status, content=content, headers={"content-type": media_type})
        )
    )


def test_a_cosignature_is_asked_for_verified_and_kept(made, http):
    """For the last anchor, going on from the one that the witness cosigned before."""
    assert ask(made.seals, [COSIGNER], http) == []
    for count in (3, 300, 2):
        made.sealed(count)
        (answer,) = ask(made.seals, [COSIGNER], http)
        assert (answer.fork, answer.reason, answer.size) == (None, None, made.seals.last().size)
        keep(made.seals, [answer], now=NOW)
    assert [head.size for head in made.seals.heads(limit=5)] == [3, 303, 305]
    for size in (3, 303, 305):
        note = made.seals.note(size)
        ((_, signature),) = note.verified([KEY.key])
        assert notes.cosigned_at(signature) == int(NOW.timestamp())
    assert made.verify().counts.cosignatures == 3


def test_an_anchor_that_was_cosigned_is_not_asked_for_again(made, http):
    """A witness has better things to do."""
    made.sealed(3)
    keep(made.seals, ask(made.seals, [COSIGNER], http), now=NOW)
    assert ask(made.seals, [COSIGNER], http) == []


def test_an_answer_that_was_lost_is_made_up_for(made, http):
    """The witness knows a size that we don't know it has: it says so, and we go on from there."""
    made.sealed(3)
    assert ask(made.seals, [COSIGNER], http)[0].signature
    made.sealed(4)
    (answer,) = ask(made.seals, [COSIGNER], http)
    assert (answer.size, bool(answer.signature)) == (7, True)


def test_a_witness_notices_that_log_and_seals_were_put_back(made, http):
    """Alone they could not know. It is shown, with who says it, until the witness cosigns again."""
    made.sealed(5).save("log.db", "seals.db")
    keep(made.seals, ask(made.seals, [COSIGNER], http), now=NOW)
    keep(made.sealed(5).seals, ask(made.seals, [COSIGNER], http), now=NOW)
    made.put_back("log.db", "seals.db")
    assert made.verify().sound
    answers = ask(made.seals, [COSIGNER], http)
    assert "witness.example/w has cosigned size 10 of this log, but only 5 is sealed here" in str(answers[0].fork)
    keep(made.seals, answers, now=NOW)
    assert [refusal.finder for refusal in made.seals.refusals()] == ["witness.example/w"]
    made.sealed(5)
    assert "another tree of size 10" in str(ask(made.seals, [COSIGNER], http)[0].fork)
    made.sealed(5)
    answers = ask(made.seals, [COSIGNER], http)
    assert "to be the beginning of this one" in str(answers[0].fork)
    keep(made.seals, answers, now=NOW)
    assert "beginning of this one" in str(made.seals.refusals()[0].reason)
    assert made.batch() is None


def test_a_refusal_of_a_witness_ends_when_it_cosigns(made, http):
    """The right files are back."""
    made.sealed(5)
    made.seals.refuse("witness.example/w", "it was put back", now=NOW)
    keep(made.seals, ask(made.seals, [COSIGNER], http), now=NOW)
    assert made.seals.refusals() == []


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (lambda: answering(404, b"unknown"), "answered 404: unknown"),
        (lambda: answering(503), "answered 503"),
        (lambda: answering(409, b"5\n"), "answered 409"),
        (lambda: answering(409, b"x\n", "text/x.tlog.size"), "no number"),
        (lambda: answering(409, b"0\n", "text/x.tlog.size"), "answered 409"),
        (lambda: answering(200, b"thank you"), "each on a line"),
        (lambda: answering(200, "— other.example AAAAAQE=\n".encode()), "none of its signatures is by the key"),
        (lambda: answering(200, "— witness.example/w {}\n".encode()), "no base64"),
        (lambda: answering(200, b"x" * 100_000), "more than 65536 bytes"),
        (lambda: httpx.Client(transport=httpx.MockTransport(refuse)), "connection refused"),
    ],
)
def test_a_witness_that_does_not_cosign_is_told_of(made, client, told):
    """And holds up nobody: not the sealing, nor the other witnesses."""
    made.sealed(5)
    with client() as http:
        (answer,) = ask(made.seals, [COSIGNER], http)
    assert (answer.signature, answer.fork) == (None, None)
    assert told in str(answer.reason)
    assert "witness.example/w did not cosign" in str(answer.reason)
    keep(made.seals, [answer], now=NOW)
    assert made.seals.refusals() == []


def refuse(request):
    msg = "connection refused"
    raise httpx.ConnectError(msg, request=request)


def test_a_false_cosignature_is_not_kept(made):
    """Of another text, or by nobody."""
    made.sealed(5)
    signature = notes.Signature(KEY.key.name, KEY.key.id, (1).to_bytes(8, "big") + b"x" * 64)
    with answering(200, f"{signature.line}\n".encode()) as http:
        (answer,) = ask(made.seals, [COSIGNER], http)
    assert "its signature is false" in str(answer.reason)


def test_a_witness_may_answer_with_more_than_one_signature(made, witness):
    """Of other keys and algorithms, under the same name: ours is found by its id."""
    note = made.sealed(5).seals.note(5)
    right = witness.cosign(0, (), note)
    strange = notes.Signature(KEY.key.name, b"1234", b"of another algorithm")
    with answering(200, f"{strange.line}\n{right.line}\n".encode()) as http:
        (answer,) = ask(made.seals, [COSIGNER], http)
    assert answer.signature == right


def test_each_witness_is_asked_by_itself(made, http, monkeypatch):
    """One that fails does not keep the others from cosigning."""
    made.sealed(5)
    other = Cosigner(signer("other.example/w", 9).key, "http://other.example")
    post = cosignatures._post

    def routed(client, url, body):
        if "other" in url:
            return 503, "text/plain", b"later"
        return post(client, url, body)

    monkeypatch.setattr(cosignatures, "_post", routed)
    answers = ask(made.seals, [other, COSIGNER], http)
    assert [(answer.cosigner.key.name, bool(answer.signature)) for answer in answers] == [
        ("other.example/w", False),
        ("witness.example/w", True),
    ]
