"""`simtrail verify`, `keys`, `witness` and `tiles`, as people run them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import leaf, merkle, sealing, tiles, timestamps
from audit import note as notes
from audit import seals as sealed
from audit.anchor import apart, opened
from audit.command import main
from audit.folder import DataFolder
from audit.seal_state import SealState, seal_state
from audit.walk import Walk
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Eventually, Running, Start

CLIENT = httpx.Client

BODY = b'{"type": "package_empty", "items": [{"iccid": "8970100000000000054"}]}'


@pytest.fixture(autouse=True)
def niced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How far a command stood back; the tests themselves do not."""
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    return asked


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder with one source, main."""
    folder = DataFolder(tmp_path / "data")
    run(folder, "sources", "add", "main")
    return folder


@pytest.fixture
def sealed_folder(folder: DataFolder) -> DataFolder:
    """Twenty events, sealed in four anchors, and projected."""
    for _ in range(4):
        receive(folder, 5)
        run(folder, "seal", "--once")
    run(folder, "project", "--once")
    return folder


def run(folder: DataFolder, *arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), f"--data={folder.path}"])
    assert result.exit_code == code, result.output
    return result


def receive(folder: DataFolder, count: int) -> None:
    path = folder.path.parent / "bodies.jsonl"
    path.write_bytes((BODY + b"\n") * count)
    run(folder, "append", path)


def state_of(folder: DataFolder) -> SealState:
    state = seal_state(folder.seals)
    assert state is not None
    return state


def tamper(path: Path, *statements: str) -> None:
    """Change a database behind everyone's back, its triggers dropped."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)


def last_anchor(folder: DataFolder) -> str:
    with sealed.open_to_read(folder.seals) as seals:
        head = seals.last(signed=True)
        assert head is not None
        return str(seals.note(head.size))


# Verifying


def test_a_sound_log_holds(sealed_folder: DataFolder, niced: list[int]) -> None:
    """In words and as JSON; it stands back for others, and leaves nothing behind."""

    def files() -> set[str]:
        return {path.name for path in sealed_folder.path.iterdir() if not path.name.endswith(("-wal", "-shm"))}

    before = files()
    shown = run(sealed_folder, "verify").stdout
    told = json.loads(run(sealed_folder, "verify", "--json", "--refold").stdout)

    assert shown.startswith("HOLDS\n")
    assert "20 events were compared with what was sealed;\n4 anchors, 4 signatures of the log" in shown
    assert (told["complete"], told["findings"], told["anchored"], told["counts"]["leaves"]) == (True, [], 20, 20)
    assert told["tables"]["position"] == 20
    assert told["tables"]["digests"]["deliveries"]["rows"] == 20
    assert niced == [10, 10]
    assert files() == before


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["DELETE FROM stored_events WHERE rowid = 7"], "position 7: the event that was sealed is not in the log"),
        (
            ["UPDATE stored_events SET state = state || x'00' WHERE rowid = 9"],
            "position 9: the event in the log is not",
        ),
        (
            [
                "UPDATE stored_events SET rowid = -1 WHERE rowid = 3",
                "UPDATE stored_events SET rowid = 3 WHERE rowid = 12",
                "UPDATE stored_events SET rowid = 12 WHERE rowid = -1",
            ],
            "position 3: the event in the log is not",
        ),
        (
            [
                "UPDATE stored_events SET rowid = -rowid - 1 WHERE rowid > 5",
                "UPDATE stored_events SET rowid = -rowid WHERE rowid < 0",
                """INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)
                SELECT 6, 'x', 1, topic, state FROM stored_events WHERE rowid = 1""",
            ],
            "positions 6 to 20: the event in the log is not",
        ),
        (["UPDATE stored_events SET topic = 'correction.recorded' WHERE rowid = 11"], "position 11: "),
    ],
    ids=["delete", "edit", "reorder", "insert", "topic"],
)
def test_what_was_done_to_the_log_is_found_at_its_first_position(
    sealed_folder: DataFolder, statements: list[str], told: str
) -> None:
    """Triggers dropped, the file changed by hand: exit code 3, and the first finding names the first position touched."""
    tamper(sealed_folder.log_file, *statements)

    shown = run(sealed_folder, "verify", code=3).stdout
    assert shown.startswith("DOES NOT HOLD\n")
    assert shown.splitlines()[2].startswith(f"- {told}")


def test_a_published_row_that_the_log_does_not_give_is_found(sealed_folder: DataFolder) -> None:
    """--refold names the table, the row, what is published and what the log gives; and the position."""
    tamper(sealed_folder.read_model, "UPDATE deliveries SET outcome = 'unreadable' WHERE position = 4")

    shown = run(sealed_folder, "verify", "--refold", code=3).stdout
    assert "position 4: the row 4 of the table deliveries is published otherwise" in shown
    assert "outcome is 'unreadable', and 'read' by the log" in shown
    assert run(sealed_folder, "verify").stdout.startswith("HOLDS")


def test_a_history_sealed_anew_is_found_by_a_kept_anchor(sealed_folder: DataFolder, tmp_path: Path) -> None:
    """Log, seals and key replaced: all of it holds, but not against an anchor that somebody kept."""
    kept = tmp_path / "ANCHOR.txt"
    kept.write_text(last_anchor(sealed_folder))
    assert run(sealed_folder, "verify", "--since", kept).stdout.startswith("HOLDS")

    tamper(
        sealed_folder.log_file,
        "UPDATE stored_events SET state = (SELECT state FROM stored_events WHERE rowid = 1) WHERE rowid = 9",
    )
    origin = state_of(sealed_folder).origin
    for path in sealed_folder.path.glob("seals.db*"):
        path.unlink()
    sealed_folder.sealing.write_text(f'origin = "{origin}"\n')
    run(sealed_folder, "seal", "--once")

    assert run(sealed_folder, "verify").stdout.startswith("HOLDS")
    assert "of another history" in run(sealed_folder, "verify", "--since", kept, code=3).stdout


def test_a_kept_file_may_have_several_anchors(sealed_folder: DataFolder, tmp_path: Path) -> None:
    """As they are appended elsewhere; each is checked. A file without any is an error."""
    with sealed.open_to_read(sealed_folder.seals) as seals:
        texts = [str(seals.note(head.size)) for head in seals.heads(limit=10)]
    (tmp_path / "anchors.txt").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "none.txt").write_text("nothing\n")

    assert apart((tmp_path / "anchors.txt").read_text()) == texts
    assert apart(texts[0]) == texts[:1]
    assert run(sealed_folder, "verify", "--since", tmp_path / "anchors.txt").stdout.startswith("HOLDS")
    assert "there is no anchor in" in run(sealed_folder, "verify", "--since", tmp_path / "none.txt", code=1).stderr


def test_an_interrupted_verification_is_resumed(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a signal it says how far it came, keeps that, and goes on from there when asked to."""
    receive(folder, 1_000)
    run(folder, "seal", "--once")
    assert "there is nothing to resume" in run(folder, "verify", "--resume", code=1).stderr

    tile = Walk.tile

    def interrupted(self: Walk, index: int, end: int) -> bool:
        if index == 1 and not (folder.path / "verify.progress").exists():
            os.kill(os.getpid(), signal.SIGINT)
            while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                pass
            # The handler's thread sets the event.
            time.sleep(0.05)
        return tile(self, index, end)

    monkeypatch.setattr(Walk, "tile", interrupted)
    stopped = run(folder, "verify", code=130)
    assert stopped.stdout.startswith("INTERRUPTED\n\n512 of 1000 events")
    assert "simtrail verify --resume" in stopped.stderr

    resumed = json.loads(run(folder, "verify", "--resume", "--json").stdout)
    assert (resumed["complete"], resumed["resumed_from"], resumed["counts"]["leaves"]) == (True, 512, 1_000)
    assert not (folder.path / "verify.progress").exists()


def test_a_log_that_was_never_sealed_can_not_be_verified(folder: DataFolder) -> None:
    """That is an error, not a verdict."""
    receive(folder, 1)

    assert "there are no seals" in run(folder, "verify", code=1).stderr
    assert "--key, --witness and --certificates are for --bundle" in run(folder, "verify", "--key=x", code=2).output


# Keys


def test_keys_are_shown(sealed_folder: DataFolder) -> None:
    """In words and as JSON; the private one nowhere."""
    (known,) = json.loads(run(sealed_folder, "keys", "show", "--json").stdout)

    assert notes.parse_key(known["vkey"]).name == state_of(sealed_folder).origin
    assert (known["role"], known["since_size"], known["introduced"]) == ("log", 0, None)
    assert run(sealed_folder, "keys", "show").stdout == f"log\tabove size 0\t{known['vkey']}\n"


def test_a_key_is_rotated_under_a_sealer_at_work(folder: DataFolder, start: Start, eventually: Eventually) -> None:
    """Both keys sign the anchor that introduces the new one; the sealer goes on with it, and everything verifies."""
    running = start("seal", f"--data={folder.path}")
    eventually(folder.seals.exists)
    receive(folder, 3)
    eventually(lambda: state_of(folder).position == 3)
    before = state_of(folder).key

    after = run(folder, "keys", "rotate").stdout.strip()
    receive(folder, 2)
    eventually(lambda: state_of(folder).position == 5)
    assert running.stop(signal.SIGTERM) == 0

    old, new = json.loads(run(folder, "keys", "show", "--json").stdout)
    assert (old["vkey"], new["vkey"], new["since_size"]) == (before, after, 3)
    note = notes.parse(new["introduced"])
    assert [key.vkey for key, _ in note.verified(map(notes.parse_key, (before, after)))] == [before, after]
    opened(notes.parse(last_anchor(folder)), [notes.parse_key(after)])
    assert not list(folder.path.glob("seal.key.next"))
    assert run(folder, "verify").stdout.startswith("HOLDS")


SIGN = """
import sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
sys.stdout.buffer.write(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(sys.argv[1])).sign(sys.stdin.buffer.read()))
"""


def external(tmp_path: Path, name: str, byte: int) -> tuple[str, str]:
    """A signer outside of simtrail: its vkey, and its table in sealing.toml without the header."""
    seed = bytes([byte] * 32)
    vkey = notes.Key(
        name, notes.ED25519, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    ).vkey
    (tmp_path / "sign.py").write_text(SIGN)
    command = json.dumps([sys.executable, str(tmp_path / "sign.py"), seed.hex()])
    return vkey, f'key = "{vkey}"\ncommand = {command}\n'


def test_a_command_signs_and_follows_a_key_file_and_is_followed(folder: DataFolder, tmp_path: Path) -> None:
    """From a file to a command, to another command, back to a file: each introduced by the one before."""
    receive(folder, 1)
    folder.sealing.write_text('origin = "log.example/x"\n')
    run(folder, "seal", "--once")
    one, one_toml = external(tmp_path, "log.example/x", 1)
    two, two_toml = external(tmp_path, "log.example/x", 2)

    folder.sealing.write_text(f"[signer]\n{one_toml}")
    receive(folder, 1)
    assert "simtrail keys rotate" in run(folder, "seal", "--once", code=1).stderr
    assert run(folder, "keys", "rotate").stdout.strip() == one
    run(folder, "seal", "--once")
    assert "put the next one there" in run(folder, "keys", "rotate", code=1).stderr

    folder.sealing.write_text(f"[signer]\n{two_toml}[former_signer]\n{one_toml}")
    assert run(folder, "keys", "rotate").stdout.strip() == two
    receive(folder, 1)
    run(folder, "seal", "--once")

    folder.sealing.write_text(f"[former_signer]\n{two_toml}")
    folder.seal_key.unlink()
    three = run(folder, "keys", "rotate").stdout.strip()
    receive(folder, 1)
    run(folder, "seal", "--once")

    assert [each["vkey"] for each in json.loads(run(folder, "keys", "show", "--json").stdout)][1:] == [one, two, three]
    assert run(folder, "verify").stdout.startswith("HOLDS")


# Witnesses, copies and time-stamps


@pytest.fixture
def witness(start: Start, eventually: Eventually, tmp_path: Path) -> Callable[..., tuple[Running, str, str]]:
    """Start a witness of a key: the process, its URL and its key."""

    def begin(*options: str) -> tuple[Running, str, str]:
        running = start("witness", f"--data={tmp_path / 'witness'}", "--port=0", *options)
        url = eventually(lambda: running.said(r"^Witnessing .* at (\S+);"))
        return running, url, running.out.read_text().strip()

    return begin


def test_a_witness_cosigns_what_is_sealed(
    sealed_folder: DataFolder, witness: Callable[..., tuple[Running, str, str]], tmp_path: Path
) -> None:
    """Named in sealing.toml, asked by the sealer, verified; after a restart it remembers, and refuses a fork."""
    key = state_of(sealed_folder).key
    running, url, vkey = witness("--name=witness.example/w", f"--trust={key}")
    (tmp_path / "copied").mkdir()
    sealed_folder.sealing.write_text(
        f'[[witnesses]]\nkey = "{vkey}"\nurl = "{url}"\n[copy]\nfile = "{tmp_path}/copied/anchors.txt"\n'
    )
    run(sealed_folder, "seal", "--once")

    state = state_of(sealed_folder)
    assert (state.cosigned, state.cosigned_by) == (20, ("witness.example/w",))
    assert oct((tmp_path / "witness" / "witness.key").stat().st_mode)[-3:] == "600"
    assert "1 of witnesses" in run(sealed_folder, "verify", "--since", tmp_path / "copied" / "anchors.txt").stdout
    assert running.stop(signal.SIGTERM) == 0

    # Log and seals put back to an older copy, together: only the witness can know.
    for name in ("log.db", "seals.db", "seal.key", "sealing.toml"):
        shutil.copy(sealed_folder.path / name, tmp_path / name)
    receive(sealed_folder, 1)
    running, url, again = witness(f"--trust={key}")
    assert again == vkey
    sealed_folder.sealing.write_text(f'[[witnesses]]\nkey = "{vkey}"\nurl = "{url}"\n')
    run(sealed_folder, "seal", "--once")
    assert state_of(sealed_folder).cosigned == 21
    for name in ("log.db", "seals.db"):
        for leftover in sealed_folder.path.glob(f"{name}-*"):
            leftover.unlink()
        shutil.copy(tmp_path / name, sealed_folder.path / name)
    tamper(sealed_folder.seals, "DELETE FROM signatures WHERE key IN (SELECT key FROM keys WHERE role = 'witness')")
    run(sealed_folder, "seal", "--once")
    refused = json.loads(run(sealed_folder, "status", "--json").stdout)["refusals"]
    (told,) = refused
    assert told.startswith(
        "witness.example/w: witness.example/w has cosigned size 21 of this log, but only 20 is sealed"
    )
    assert told.endswith("log and seals were put back to an older copy")
    assert running.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ([], 2, "--trust"),
        (["--trust=x"], 1, "is no public key"),
        (["--trust=LOG"], 2, "needs a name"),
        (["--trust=LOG", "--name=a b"], 1, "can't name a key"),
    ],
)
def test_a_witness_that_can_not_start_says_why(
    sealed_folder: DataFolder, tmp_path: Path, options: list[str], code: int, told: str
) -> None:
    """Whom to trust, and what it is called, can't be guessed."""
    key = state_of(sealed_folder).key
    made = DataFolder(tmp_path / "witness")
    shown = run(made, "witness", "--port=0", *[each.replace("LOG", key) for each in options], code=code).output
    assert told in shown


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[bytes], bytes]:
    """A time-stamp authority, made with openssl: answers a query. Its certificate is ca.pem."""
    (tmp_path / "tsa.cnf").write_text(
        "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical, CA:true\n"
        "[tsa]\nextendedKeyUsage = critical, timeStamping\nbasicConstraints = CA:false\n"
        "[tsp]\ndefault_tsa = c\n[c]\nserial = serial\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
        "signer_digest = sha256\naccuracy = secs:1\nordering = no\ness_cert_id_alg = sha256\n"
    )

    def openssl(*arguments: str) -> None:
        subprocess.run(["/usr/bin/openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ("req", "-config", "tsa.cnf", "-newkey", "rsa:2048", "-nodes", "-days", "3650")
    openssl(*new, "-x509", "-subj", "/CN=test root", "-extensions", "ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=test authority", "-keyout", "tsa.key", "-out", "tsa.csr")
    openssl(
        *("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650"),
        *("-extfile", "tsa.cnf", "-extensions", "tsa", "-out", "tsa.pem"),
    )
    (tmp_path / "serial").write_text("01\n")

    def answer(query: bytes) -> bytes:
        (tmp_path / "query").write_bytes(query)
        openssl(
            *("ts", "-reply", "-config", "tsa.cnf", "-section", "c", "-queryfile", "query"),
            *("-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "answer"),
        )
        return (tmp_path / "answer").read_bytes()

    return answer


def ask_for_stamps(folder: DataFolder, answer: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sealer ask an authority, whose certificate is beside the folder."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=answer(request.content)))
    monkeypatch.setattr("httpx.Client", partial(CLIENT, transport=transport))
    certificates = folder.path.parent / "ca.pem"
    folder.sealing.write_text(f'[timestamps]\nurl = "http://tsa.example/"\ncertificates = "{certificates}"\n')


def test_anchors_are_time_stamped(
    sealed_folder: DataFolder, authority: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an authority whose answer is verified before it is kept, and again by `verify`; openssl agrees."""
    ask_for_stamps(sealed_folder, authority, monkeypatch)
    run(sealed_folder, "seal", "--once")

    assert state_of(sealed_folder).stamped == 20
    assert run(sealed_folder, "verify").stdout.startswith("HOLDS")
    with sealed.open_to_read(sealed_folder.seals) as seals:
        (stamp,) = seals.timestamps()
        text = notes.parse(last_anchor(sealed_folder)).text
    (tmp_path / "stamp.tsr").write_bytes(stamp.token)
    checked = subprocess.run(
        ["/usr/bin/openssl", "ts", "-verify", "-digest", hashlib.sha256(text.encode()).hexdigest(), "-in", "stamp.tsr", "-CAfile", "ca.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Verification: OK" in checked.stdout + checked.stderr

    # An answer to another question is no time-stamp of this anchor.
    receive(sealed_folder, 1)
    ask_for_stamps(sealed_folder, lambda _: stamp.token, monkeypatch)
    run(sealed_folder, "seal", "--once")
    assert state_of(sealed_folder).stamped == 20

    tamper(sealed_folder.seals, "UPDATE timestamps SET size = 15")
    assert (
        "position 15: the anchor of size 15: the time-stamp is not good" in run(sealed_folder, "verify", code=3).stdout
    )


def test_evidence_has_the_time_stamp_of_its_anchor(
    sealed_folder: DataFolder, authority: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What verify.py says to ask of openssl holds; simtrail checks it by itself, with the right certificates alone."""
    ask_for_stamps(sealed_folder, authority, monkeypatch)
    run(sealed_folder, "seal", "--once")
    evidence = tmp_path / "evidence"
    run(sealed_folder, "export", "--evidence", "--personal-data", "--out", evidence)

    told = run(sealed_folder, "verify", "--bundle", evidence).stdout
    (command,) = re.findall("openssl (ts -verify .*)", told)
    checked = subprocess.run(
        ["/usr/bin/openssl", *command.replace("CERTIFICATES", str(tmp_path / "ca.pem")).split()],
        cwd=evidence, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Verification: OK" in checked.stdout + checked.stderr

    options = ("verify", "--bundle", evidence, "--certificates")
    told = run(sealed_folder, *options, tmp_path / "ca.pem").stdout
    assert "The anchor of size 20 is time-stamped by an authority whose certificates you gave" in told
    subprocess.run(
        ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-keyout", "other.key", "-out", "other.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    told = run(sealed_folder, *options, tmp_path / "other.pem", code=3).stdout
    assert told.startswith("FAILED\n\ndata/anchors/last.tsr: the time-stamp is not good")
    assert "are for --bundle" in run(sealed_folder, "verify", "--certificates", tmp_path / "ca.pem", code=2).stderr


def test_without_the_extra_time_stamps_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional."""
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    with pytest.raises(ConfigurationError, match=r"requirements/timestamps\.txt"):
        timestamps.verifier(tmp_path / "ca.pem")


# Tiles


def test_the_tree_is_written_as_static_files(folder: DataFolder, tmp_path: Path) -> None:
    """Whoever has the files alone gets the anchor's root, from the hashes and from the leaves; later only what is new."""
    receive(folder, 300)
    run(folder, "seal", "--once")
    run(folder, "tiles", tmp_path / "static")
    first = (tmp_path / "static" / "tile" / "0" / "000").stat().st_mtime_ns
    receive(folder, 300)
    run(folder, "seal", "--once")
    assert run(folder, "tiles", tmp_path / "static").stdout == f"{tmp_path / 'static'}: the tree of size 600\n"

    static = tmp_path / "static"
    anchor, _ = opened(notes.parse((static / "checkpoint").read_bytes()), [notes.parse_key(state_of(folder).key)])
    assert (static / "tile" / "0" / "000").stat().st_mtime_ns == first
    node = tiles.nodes(
        lambda level, index: (
            static / tiles.path(level, index, min(256, (600 >> 8 * level) - index * 256))
        ).read_bytes()
    )
    assert merkle.root(600, node) == anchor.root
    edge = merkle.Edge()
    for index, width in enumerate((256, 256, 88)):
        data = (static / tiles.path("entries", index, width)).read_bytes()
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            edge.extend([merkle.leaf_hash(data[2:end])])
            assert leaf.decode(data[2:end]).position == edge.size
            data = data[end:]
    assert edge.root() == anchor.root


def test_tiles_of_a_changed_log_are_not_written(sealed_folder: DataFolder, tmp_path: Path) -> None:
    """An event that is not the one sealed is an error; the checkpoint, which comes last, is not there."""
    tamper(
        sealed_folder.log_file,
        "UPDATE stored_events SET state = (SELECT state FROM stored_events WHERE rowid = 1) WHERE rowid = 9",
    )

    assert "position 9 is not the one that was sealed" in run(sealed_folder, "tiles", tmp_path / "s", code=1).stderr
    assert not (tmp_path / "s" / "checkpoint").exists()


def test_an_example_of_sealing_toml_is_read(tmp_path: Path) -> None:
    """The one in docs/operating.md."""
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    (example,) = re.findall(r"```toml\n(# sealing\.toml.*?)```", text, re.DOTALL)
    (tmp_path / "sealing.toml").write_text(example)
    how = sealing.load(tmp_path / "sealing.toml")
    assert how.witnesses
    assert how.copy
    assert how.timestamps
