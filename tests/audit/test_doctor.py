from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from audit import append as capture
from audit import doctor, keys
from audit import folder as folders
from audit.command import main
from audit.doctor import Finding, examine
from audit.folder import DataFolder
from audit.seal_state import seal_state
from ingest import sources
from schema.log import open_to_append
from schema.log_sqlite import APPEND_ONLY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import Serve

START = datetime(2026, 5, 1, tzinfo=UTC)

NOW = START + timedelta(days=1)

NOWHERE = "http://127.0.0.1:1"

CHECKS = ["sqlite", "modes", "disk", "configuration", "sources", "log", "events", "clock", "seals"]
CHECKS += ["read model", "processes"]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """An installation with a source and five events, projected, in a folder for its owner alone."""
    folder = folders.create(tmp_path / "data")
    sources.add(folder.sources, "main", now=START, entropy=os.urandom)
    record(folder, [START + timedelta(seconds=n) for n in range(5)])
    project(folder)
    seal(folder)
    return folder


def record(folder: DataFolder, times: Sequence[datetime]) -> None:
    clock = iter(times)
    with open_to_append(folder.log_file) as log:
        captured = [("x", b'{"n": %d}' % n) for n in range(len(times))]
        list(capture.append(log, captured, "main", now=lambda: next(clock), entropy=os.urandom))


def project(folder: DataFolder) -> None:
    assert CliRunner().invoke(main, ["project", "--once", "--data", str(folder.path)]).exit_code == 0


def seal(folder: DataFolder) -> None:
    assert CliRunner().invoke(main, ["seal", "--once", "--data", str(folder.path)]).exit_code == 0


def found(folder: DataFolder, check: str, *, now: datetime = NOW, full: bool = False) -> Finding:
    (finding,) = [each for each in examine(folder, NOWHERE, now, full=full) if each.check == check]
    return finding


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("full", [False, True])
def test_a_sound_installation_has_nothing_to_mend(folder: DataFolder, full: bool) -> None:  # noqa: FBT001
    """Each check has one finding, none of which failed; what is not running is a warning."""
    findings = list(examine(folder, NOWHERE, NOW, full=full))

    assert [finding.check for finding in findings] == CHECKS
    assert {f.check: f.state for f in findings if f.state != "ok" and f.check != "disk"} == {"processes": "warning"}
    assert "all 5 events can be read, 5 have the hash" in found(folder, "events").told


def test_looking_changes_nothing(folder: DataFolder) -> None:
    """The files are, byte for byte, what they were."""

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.suffix in {".db", ".json"}}

    before = contents()
    list(examine(folder, NOWHERE, NOW, full=True))

    assert contents() == before


def test_a_fresh_folder_has_nothing_to_mend_either(tmp_path: Path) -> None:
    """Before the first start there is no log, which is no fault."""
    findings = list(examine(folders.create(tmp_path / "data"), NOWHERE, NOW, full=True))

    assert [finding.check for finding in findings] == CHECKS
    assert "failed" not in {finding.state for finding in findings if finding.check != "disk"}


@pytest.mark.parametrize(
    ("version", "state", "told"),
    [
        ((3, 36, 0), "failed", "3.36.0"),
        ((3, 40, 1), "ok", "WAL-reset bug"),
        ((3, 51, 2), "ok", "WAL-reset bug"),
        ((3, 51, 3), "ok", "3.51.3"),
    ],
)
def test_an_old_sqlite_is_told(version: tuple[int, ...], state: str, told: str) -> None:
    """One without STRICT tables can't be used; one with the WAL-reset bug can, as one process checkpoints."""
    finding = doctor.sqlite(version)

    assert finding.state == state
    assert told in finding.told
    assert ("WAL-reset" in finding.told) == (version in {(3, 40, 1), (3, 51, 2)})


@pytest.mark.parametrize(
    ("name", "mode", "state"),
    [(".", 0o720, "failed"), (".", 0o702, "failed"), ("sources.json", 0o640, "failed"), (".", 0o750, "warning")],
)
def test_modes_that_let_others_in_are_told(folder: DataFolder, name: str, mode: int, state: str) -> None:
    """Whoever can write in the folder can change the past; who can read the sources has their hashes."""
    (folder.path / name).chmod(mode)

    finding = found(folder, "modes")

    assert finding.state == state
    assert (finding.remedy or "").startswith("chmod")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_of_another_owner_are_told(folder: DataFolder) -> None:
    """A command run once as root leaves a file that the service can't write."""
    os.chown(folder.log_file, 65_534, -1)

    finding = found(folder, "modes")

    assert (finding.state, finding.told.split(":")[0]) == ("failed", "log.db")


@pytest.mark.parametrize(("free", "state"), [(2 * 10**11, "ok"), (10**10, "warning"), (2 * 10**8, "failed")])
def test_a_disk_that_fills_is_told(folder: DataFolder, free: int, state: str) -> None:
    """First as a warning, while there is time, then as a failure."""
    usage = shutil.disk_usage(folder.path)._replace(total=10**12, free=free)

    assert doctor.disk(folder.path, usage).state == state


def test_a_configuration_that_can_not_be_used_is_told(folder: DataFolder) -> None:
    """It fails its own check, and the read model's with it."""
    folder.configuration.write_text("nonsense = [")

    assert found(folder, "configuration").state == "failed"
    assert found(folder, "sources").state == "ok"


def test_no_source_is_a_warning(folder: DataFolder) -> None:
    """Nobody may deliver: at a first start that is so, later it is a mistake."""
    sources.remove(folder.sources, "main")

    assert found(folder, "sources") == Finding(
        "sources", "warning", "no source may deliver", "simtrail sources add NAME"
    )


@pytest.mark.parametrize("verb", ["update", "delete", "insert"])
def test_a_removed_trigger_is_told(folder: DataFolder, verb: str) -> None:
    """A log that is no longer append-only has been opened by somebody who meant it."""
    change(folder.log_file, f"DROP TRIGGER stored_events_no_{verb}")

    finding = found(folder, "log")

    assert (finding.state, "1 of the 3 triggers" in finding.told) == ("failed", True)


def test_a_trigger_that_does_nothing_is_told(folder: DataFolder) -> None:
    """A name is not enough: the trigger must be ours to the word."""
    change(
        folder.log_file,
        "DROP TRIGGER stored_events_no_delete",
        "CREATE TRIGGER stored_events_no_delete BEFORE DELETE ON stored_events BEGIN SELECT 1; END",
    )

    assert found(folder, "log").state == "failed"


@pytest.mark.parametrize("position", [1, 3])
def test_a_removed_event_is_told(folder: DataFolder, position: int) -> None:
    """Positions have no holes, at the beginning or after it."""
    (trigger,) = [sql for sql in APPEND_ONLY if "BEFORE DELETE" in sql]
    change(
        folder.log_file,
        "DROP TRIGGER stored_events_no_delete",
        f"DELETE FROM stored_events WHERE rowid = {position}",
        trigger,
    )

    finding = found(folder, "log")

    assert (finding.state, "1 holes" in finding.told) == ("failed", True)


def test_a_damaged_page_is_told(folder: DataFolder) -> None:
    """SQLite's own check of the file is part of the log's."""
    with closing(sqlite3.connect(folder.log_file)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with folder.log_file.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    assert found(folder, "log").state == "failed"


def tamper(folder: DataFolder, change_to: str) -> None:
    (trigger,) = [sql for sql in APPEND_ONLY if "BEFORE UPDATE" in sql]
    change(
        folder.log_file,
        "DROP TRIGGER stored_events_no_update",
        f"UPDATE stored_events SET state = {change_to} WHERE rowid = 3",
        trigger,
    )


def test_an_event_that_can_not_be_read_is_named(folder: DataFolder) -> None:
    """The finding says after which position the log is damaged."""
    tamper(folder, "x'00'")

    finding = found(folder, "events")

    assert (finding.state, "after position 2 can't be read" in finding.told) == ("failed", True)


def test_a_changed_body_is_found_by_the_read_model(folder: DataFolder) -> None:
    """The tables were made from another body than the log has now."""
    tamper(folder, "(SELECT state FROM stored_events WHERE rowid = 4)")

    finding = found(folder, "events")

    assert (finding.state, "position 3 is not the one" in finding.told) == ("failed", True)


def test_only_the_last_events_are_read_unless_all_are_asked_for(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doctor that takes an hour isn't asked; --full finds what is older."""
    monkeypatch.setattr(doctor, "EVENTS", 2)
    tamper(folder, "x'00'")

    assert found(folder, "events").state == "ok"
    assert "the last 2 of 5 events" in found(folder, "events").told
    assert found(folder, "events", full=True).state == "failed"


def test_an_event_of_the_future_is_told(folder: DataFolder) -> None:
    """The clock was wrong when it came, or is wrong now."""
    assert found(folder, "clock", now=START).state == "failed"
    assert found(folder, "clock", now=START + timedelta(seconds=4)).state == "ok"


def test_a_clock_that_went_back_is_told(folder: DataFolder) -> None:
    """Small steps are of no account; from a large one on, time is not the order of events."""
    record(folder, [START + timedelta(hours=2), START + timedelta(hours=2) - timedelta(seconds=50)])
    assert found(folder, "clock").state == "ok"

    record(folder, [START + timedelta(hours=1)])

    finding = found(folder, "clock")
    assert (finding.state, "went back at position 8" in finding.told) == ("warning", True)


def test_a_read_model_ahead_of_its_log_is_told(folder: DataFolder) -> None:
    """A restored log that goes on would give later events to old positions."""
    folder.log_file.unlink()
    record(folder, [START])

    finding = found(folder, "read model")

    assert (finding.state, "position 5, but the log ends at 1" in finding.told) == ("failed", True)


def test_a_read_model_of_another_configuration_is_told(folder: DataFolder) -> None:
    """Its rows are readings under other rules than those of now."""
    folder.configuration.write_text("redelivery_window_s = 60\n")

    assert "another configuration" in found(folder, "read model").told


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE tracking SET model_version = 99", "version is 99"),
        ("DELETE FROM deliveries WHERE position = 2", "4 deliveries at position 5"),
    ],
)
def test_a_read_model_that_is_not_this_ones_is_told(folder: DataFolder, statement: str, told: str) -> None:
    """Tables of another version, or that were changed by hand, are made anew."""
    change(folder.read_model, statement)

    finding = found(folder, "read model")

    assert finding.state == "failed"
    assert told in finding.told


def test_a_read_model_behind_is_no_fault(folder: DataFolder) -> None:
    """Lag is told, and is what a projector mends by itself."""
    record(folder, [START])

    assert found(folder, "read model") == Finding("read model", "ok", "at position 5 of 6, 1 behind")


@pytest.mark.parametrize(
    ("days", "state", "told"),
    [
        (20, "ok", "20 days more"),
        (13, "warning", "13 days more"),
        (-1, "failed", "not now"),
        (200, "failed", "not now"),
    ],
)
def test_a_certificate_is_looked_at(folder: DataFolder, tmp_path: Path, days: int, state: str, told: str) -> None:
    """How long it is valid yet; one that has ended, or not begun, is of no use to a sender."""
    paths = make(
        tmp_path,
        NOW - timedelta(days=30) if days < 100 else NOW + timedelta(days=1),
        NOW + timedelta(days=days, hours=1),
    )

    (*_, finding) = examine(folder, NOWHERE, NOW, full=False, tls=paths)

    assert (finding.check, finding.state) == ("certificate", state)
    assert told in finding.told


def test_a_certificate_with_the_wrong_key_is_told(folder: DataFolder, tmp_path: Path) -> None:
    """By the command, which is given what the receiver is given."""
    certificate, _ = make(tmp_path / "one", NOW, NOW + timedelta(days=50))
    _, key = make(tmp_path / "other", NOW, NOW + timedelta(days=50))
    arguments = ["doctor", "--json", "--data", str(folder.path), "--tls-cert", str(certificate), "--tls-key", str(key)]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert json.loads(result.stdout)[-1]["state"] == "failed"
    assert "TLS can't be spoken" in json.loads(result.stdout)[-1]["told"]


def make(folder: Path, begins: datetime, ends: datetime) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, ends)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return paths


def test_a_running_installation_is_seen(tmp_path: Path, serve: Serve) -> None:
    """While all run, at whatever port, the doctor says so, finds nothing to mend, and exits with 0."""
    serving = serve(tmp_path / "data")

    right = CliRunner().invoke(main, ["doctor", "--json", "--data", str(tmp_path / "data")])
    wrong = CliRunner().invoke(main, ["doctor", "--json", "--data", str(tmp_path / "data"), "--port", "1"])

    assert right.exit_code == 0, right.output
    assert json.loads(right.stdout)[-1]["state"] == "ok"
    assert f"answers at {serving.webhook_url.partition('/webhooks/')[0]}," in json.loads(right.stdout)[-1]["told"]
    assert "does not answer" in json.loads(wrong.stdout)[-1]["told"]


def test_a_receiver_that_can_not_record_has_failed(tmp_path: Path, serve: Serve) -> None:
    """It answers, and says why; a doctor that asked no more than that would call it well."""
    data = tmp_path / "data"
    serve(data)
    with closing(sqlite3.connect(data / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = CliRunner().invoke(main, ["doctor", "--json", "--data", str(data)])

    last = json.loads(found.stdout)[-1]
    assert (found.exit_code, last["state"]) == (1, "failed")
    assert "records nothing now: the log did not answer within" in last["told"]


def test_the_command_exits_with_1_if_a_check_failed(folder: DataFolder) -> None:
    """One line a check, with what to do after an arrow; the exit code says whether anything failed."""
    sound = CliRunner().invoke(main, ["doctor", "--data", str(folder.path), "--port", "1"])
    folder.sources.chmod(0o644)
    unsound = CliRunner().invoke(main, ["doctor", "--data", str(folder.path), "--port", "1"])

    assert len(sound.stdout.splitlines()) == len(CHECKS)
    assert (sound.exit_code, unsound.exit_code) == (int("failed " in sound.stdout), 1)
    assert f"others can read sources.json -> chmod 600 {folder.sources}" in unsound.stdout


def test_a_log_that_is_not_the_one_sealed_has_failed(folder: DataFolder) -> None:
    """What the sealer refused to sign is told, with who found it; so is a log that was never sealed."""
    assert found(folder, "seals").told == "signed up to position 5, 0 behind; no witness has cosigned"
    change(folder.log_file, "DROP TRIGGER stored_events_no_delete", "DELETE FROM stored_events WHERE rowid = 5")
    assert CliRunner().invoke(main, ["seal", "--once", "--data", str(folder.path)]).exit_code == 1

    refused = found(folder, "seals")
    assert refused.state == "failed"
    assert "the log ends at position 4, but was sealed up to 5" in refused.told
    assert "simtrail verify" in (refused.remedy or "")


def test_a_key_that_others_may_read_has_failed(folder: DataFolder) -> None:
    """Whoever reads it can sign another history."""
    folder.seal_key.chmod(0o644)

    assert found(folder, "seals").state == "failed"
    assert "mode 0644" in found(folder, "seals").told


def test_a_restored_folder_without_its_key_has_failed(folder: DataFolder, tmp_path: Path) -> None:
    """No backup holds the key; with it put back, the same folder is as it should be, and is sealed on."""
    run = CliRunner().invoke
    restored = DataFolder(tmp_path / "restored")
    assert run(main, ["backup", str(restored.path), "--data", str(folder.path)]).exit_code == 0

    missing = found(restored, "seals", full=True)
    assert missing.state == "failed"
    assert missing.told.startswith(f"nothing can be signed: the key file {restored.seal_key} is missing: copy it there")
    assert "sealing goes on by itself" in (missing.remedy or "")
    assert run(main, ["seal", "--once", "--data", str(restored.path)]).exit_code == 1

    shutil.copy(folder.seal_key, restored.seal_key)
    assert found(restored, "seals").told == "signed up to position 5, 0 behind; no witness has cosigned"
    record(restored, [START + timedelta(minutes=1)])
    seal(restored)
    assert found(restored, "seals").told.startswith("signed up to position 6, 0 behind")


def test_another_key_than_the_logs_has_failed(folder: DataFolder, tmp_path: Path) -> None:
    """Nothing that it signs would count; a key that waits since a rotation was cut short does, and so does a signer's."""
    kept = folder.seal_key.rename(tmp_path / "kept")
    key = found_key(folder)
    keys.generate(folder.seal_key, "other.example", entropy=os.urandom)
    assert f"but the log's key is {key}: put the right file back" in found(folder, "seals").told
    kept.rename(folder.seal_key.with_name("seal.key.next"))
    assert found(folder, "seals").state == "ok"

    folder.seal_key.with_name("seal.key.next").unlink()
    folder.seal_key.unlink()
    folder.sealing.write_text(f'[signer]\nkey = "{key}"\ncommand = ["sign"]\n')
    assert found(folder, "seals").state == "ok"


def found_key(folder: DataFolder) -> str:
    state = seal_state(folder.seals)
    assert state is not None
    return state.key


def test_sealing_begins_anew_where_the_key_is_lost(folder: DataFolder) -> None:
    """With the seals moved away, from the first event on, under another name; those that were signed still verify."""
    first = found_key(folder)
    folder.seal_key.unlink()
    folder.seals.rename(folder.path / "seals.lost-key.db")
    seal(folder)

    assert found(folder, "seals").told.startswith("signed up to position 5, 0 behind")
    assert found_key(folder).split("+")[0] != first.split("+")[0]


def test_a_log_that_was_never_sealed_is_a_warning(folder: DataFolder) -> None:
    """It is no fault of what is there."""
    folder.seals.unlink()

    assert found(folder, "seals").state == "warning"
