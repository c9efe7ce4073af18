"""`simtrail seal`, and sealing under `simtrail serve`: keys, receipts, and a log that was put back."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result

from audit import note as notes
from audit import proof
from audit.command import main
from audit.folder import DataFolder
from audit.seal_state import SealState, seal_state
from schema.log import open_to_read

if TYPE_CHECKING:
    from pathlib import Path

    from bench.cluster import Postgres
    from schema.log_place import Server
    from tests.conftest import Eventually, Serve, Start

BODY = b'{"type": "package_empty", "items": [{"iccid": "8970100000000000054"}]}'


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder with one source, main."""
    folder = DataFolder(tmp_path / "data")
    run(folder, "sources", "add", "main")
    return folder


def run(folder: DataFolder, *arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), f"--data={folder.path}"])
    assert result.exit_code == code, result.output
    return result


def receive(folder: DataFolder, count: int) -> None:
    path = folder.path.parent / "bodies.jsonl"
    path.write_bytes(BODY + b"\n")
    for _ in range(count):
        run(folder, "append", path)


def status(folder: DataFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(folder, "status", "--json").stdout)
    return found


def state_of(folder: DataFolder) -> SealState:
    state = seal_state(folder.seals)
    assert state is not None
    return state


def put_back(path: Path, copy: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    shutil.copy(copy, path)


def test_the_first_sealing_makes_a_key_for_its_owner_alone(folder: DataFolder) -> None:
    """Key and seals are there, the log is sealed, and sealing again finds nothing to do."""
    receive(folder, 3)
    told = run(folder, "seal", "--once").stderr

    assert told == "The log is sealed up to position 3.\n"
    assert stat.S_IMODE(folder.seal_key.stat().st_mode) == 0o600
    state = state_of(folder)
    assert (state.size, state.position, state.signing, state.refusals) == (3, 3, True, ())
    assert state.origin.startswith("simtrail.internal/")
    assert notes.parse_key(state.key).name == state.origin
    assert run(folder, "seal", "--once").stderr == told
    assert status(folder)["sealed"] == 3


def test_an_origin_is_chosen_once(folder: DataFolder) -> None:
    """sealing.toml names it before the first anchor; afterwards it can't be another."""
    receive(folder, 1)
    folder.sealing.write_text('origin = "simtrail.example/first"\n')
    run(folder, "seal", "--once")
    folder.sealing.write_text('origin = "simtrail.example/second"\n')

    assert "it can't be called simtrail.example/second now" in run(folder, "seal", "--once", code=1).stderr
    assert state_of(folder).origin == "simtrail.example/first"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("witness = []", "witness"),
        ("origin = 'a b'", "origin"),
        ("[[witnesses]]\nkey = 'x'\nurl = 'https://w.example'", "witnesses: 'x' is no public key"),
        ("[[witnesses]]\nkey = 'x'\nurl = 'w.example'", r"\$.witnesses\[0\].url"),
        ("[copy]\nfile = 'a'\nevery_s = 0", "every_s"),
        ("[signer]\nkey = 'x'\ncommand = []", "command"),
        ("=", "Invalid"),
    ],
)
def test_a_sealing_file_that_is_wrong_says_where(folder: DataFolder, text: str, told: str) -> None:
    """Before anything is sealed or served, with the key's name."""
    folder.sealing.write_text(text)
    receive(folder, 1)

    for command in ("seal", "serve"):
        arguments = ["--once"] if command == "seal" else ["--port=0", "--publish-port=0"]
        assert re.search(told, run(folder, command, *arguments, code=1).stderr)
    assert not folder.seals.exists()


def test_a_log_put_back_to_yesterdays_copy_is_refused(folder: DataFolder, tmp_path: Path) -> None:
    """The command ends with 1, status and doctor say why; with the right log it goes on."""
    receive(folder, 2)
    run(folder, "seal", "--once")
    shutil.copy(folder.log_file, tmp_path / "yesterday.db")
    receive(folder, 2)
    run(folder, "seal", "--once")
    shutil.copy(folder.log_file, tmp_path / "today.db")
    put_back(folder.log_file, tmp_path / "yesterday.db")

    refused = run(folder, "seal", "--once", code=1).stderr
    assert "the log ends at position 2, but was sealed up to 4" in refused
    assert "it was put back to an older copy" in refused
    assert status(folder)["refusals"] == [f"sealer: {refused.removeprefix('Error: ').strip()}"]

    # Growing over it by other events does not help.
    receive(folder, 3)
    assert "is not the one that was sealed" in run(folder, "seal", "--once", code=1).stderr
    assert state_of(folder).position == 4

    put_back(folder.log_file, tmp_path / "today.db")
    receive(folder, 1)
    run(folder, "seal", "--once")
    assert status(folder)["refusals"] == []
    assert status(folder)["sealed"] == 5


def test_served_events_are_sealed_and_have_receipts(folder: DataFolder, serve: Serve, eventually: Eventually) -> None:
    """The answer names the receipt; it proves the event under a key that the seals name."""
    secret = run(folder, "sources", "rotate", "main").stdout.strip().rsplit("/", 1)[1]
    serving = serve(folder.path)
    front = serving.running.said(r"^Receiving at (\S+);")
    path = httpx.post(f"{front}/webhooks/main/{secret}", content=BODY).json()["receipt"]
    assert path == "/receipts/1"

    def receipt() -> str | None:
        answer = httpx.get(f"{front}{path}", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code in {200, 503}
        assert answer.status_code == 200 or answer.headers["retry-after"] == "1"
        return answer.text if answer.status_code == 200 else None

    found = proof.parse(eventually(receipt))
    ready = httpx.get(f"{front}/readyz").json()["seals"]
    leaf, anchor, _ = found.verified([notes.parse_key(ready["key"])])
    assert (leaf.position, leaf.source, anchor.size) == (1, "main", 1)
    assert (ready["signing"], ready["position"], ready["refusals"]) == (True, 1, [])
    assert httpx.get(f"{front}{path}", headers={"Authorization": "Bearer x"}).status_code == 404
    assert httpx.get(f"{front}/receipts/2", headers={"Authorization": f"Bearer {secret}"}).status_code == 404

    last = httpx.post(f"{front}/webhooks/main/{secret}", content=BODY).json()["position"]
    assert serving.running.stop(signal.SIGTERM) == 0
    assert (last, status(folder)["sealed"]) == (2, 2)


def test_a_fork_is_shown_while_receiving_goes_on(
    folder: DataFolder, serve: Serve, eventually: Eventually, tmp_path: Path
) -> None:
    """Served on yesterday's log: webhooks are taken, nothing is signed, and readyz says so."""
    receive(folder, 1)
    shutil.copy(folder.log_file, tmp_path / "yesterday.db")
    receive(folder, 1)
    run(folder, "seal", "--once")
    put_back(folder.log_file, tmp_path / "yesterday.db")
    secret = run(folder, "sources", "rotate", "main").stdout.strip().rsplit("/", 1)[1]
    serving = serve(folder.path)
    front = serving.running.said(r"^Receiving at (\S+);")

    seals = eventually(
        lambda: (found := httpx.get(f"{front}/readyz").json()["seals"]) and not found["signing"] and found
    )
    assert "put back to an older copy" in seals["refusals"][0]["reason"]
    assert httpx.post(f"{front}/webhooks/main/{secret}", content=BODY).status_code == 200
    answer = httpx.get(f"{front}/receipts/1", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code in {200, 503}
    assert state_of(folder).position == 2
    assert serving.running.stop(signal.SIGTERM) == 0
    told = [line for line in serving.running.err.read_text().splitlines() if "not sealing" in line]
    assert len(told) <= 2, "once for each reason"


def test_a_lost_key_keeps_nobody_from_recording(folder: DataFolder, serve: Serve, eventually: Eventually) -> None:
    """Receiving goes on, status says why nothing is signed; with the key back, so does sealing."""
    receive(folder, 1)
    run(folder, "seal", "--once")
    folder.seal_key.rename(folder.seal_key.with_suffix(".away"))
    secret = run(folder, "sources", "rotate", "main").stdout.strip().rsplit("/", 1)[1]
    serving = serve(folder.path)
    front = serving.running.said(r"^Receiving at (\S+);")

    assert httpx.post(f"{front}/webhooks/main/{secret}", content=BODY).status_code == 200
    assert eventually(lambda: status(folder)["refusals"])[0].startswith("sealer: the key file")
    folder.seal_key.with_suffix(".away").rename(folder.seal_key)
    assert eventually(lambda: status(folder)["sealed"] == 2)
    assert eventually(lambda: status(folder)["refusals"] == [])
    assert serving.running.stop(signal.SIGTERM) == 0


def test_the_sealer_runs_alone(folder: DataFolder, start: Start, eventually: Eventually) -> None:
    """`seal` waits for a log that comes only later, follows it, and ends on Ctrl-C with 0."""
    running = start("seal", f"--data={folder.path}")
    eventually(folder.seals.exists)
    receive(folder, 1)

    assert eventually(lambda: status(folder)["sealed"] == 1)
    assert running.stop(signal.SIGINT) == 0
    assert running.said(r"(^The log is sealed up to position 1\.$)")
    with open_to_read(folder.log) as log:
        assert log.head() == 1


def test_only_one_sealer_at_a_time(folder: DataFolder, start: Start, eventually: Eventually) -> None:
    """Another is told which process it is."""
    running = start("seal", f"--data={folder.path}")
    eventually(folder.seals.exists)

    assert f"another sealer (process {running.process.pid})" in run(folder, "seal", "--once", code=1).stderr


def test_triggers_keep_timestamps_as_they_are(folder: DataFolder) -> None:
    """As everything else in seals.db."""
    receive(folder, 1)
    run(folder, "seal", "--once")
    with closing(sqlite3.connect(folder.seals)) as connection:
        connection.execute("INSERT INTO timestamps VALUES (1, x'00', '2026-05-01T00:00:00.000000Z')")
        for statement in ("DELETE FROM timestamps", "UPDATE timestamps SET token = x'01'"):
            with pytest.raises(sqlite3.DatabaseError, match="the seals only grow"):
                connection.execute(statement)


def test_a_log_on_a_server_is_sealed_and_verified(folder: DataFolder, postgres: Postgres, server_log: Server) -> None:
    """As one in a file; a change made in the database is found by its position, one at the end refused."""
    log = f"--log={server_log.url}"
    path = folder.path.parent / "bodies.jsonl"
    path.write_bytes((BODY + b"\n") * 5)
    run(folder, "append", path, log)
    assert run(folder, "seal", "--once", log).stderr == "The log is sealed up to position 5.\n"
    assert run(folder, "verify", log).stdout.startswith("HOLDS")

    owner = postgres.url(server_log.url.rpartition("/")[2])
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("ALTER TABLE simtrail.stored_events DISABLE TRIGGER ALL")
        connection.execute("UPDATE simtrail.stored_events SET state = state || '\\x00' WHERE notification_id = 2")
        assert "- position 2: the event in the log is not" in run(folder, "verify", log, code=3).stdout
        connection.execute("DELETE FROM simtrail.stored_events WHERE notification_id = 5")
    assert "the log ends at position 4, but was sealed up to 5" in run(folder, "seal", "--once", log, code=1).stderr
