"""`simtrail export --evidence`: what is handed over, and that an earlier version's still verifies."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from audit.command import main
from audit.verify_bundle import Failure, check_bundle
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = sorted((Path(__file__).parents[1] / "samples").glob("*.json"))

# Made by simtrail at commit 2b30346, before bundles had the digests of the published tables.
GOLDEN = Path(__file__).parents[1] / "golden" / "evidence-2b30346.zip"
GOLDEN_KEY = "simtrail.example/golden+f38ded24+AcaESGBl1AicORJgQtIzz8JWL1Rzzwdbb1VjoHv8PtAz"
GOLDEN_WITNESS = "witness.example/w+1093b504+BG56HN0psLeP0Tr0xVmP7/TvKpcWbjym8uT7/M2AUFvx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with every sample received, sealed and projected."""
    data = tmp_path / "data"
    run("sources", "add", "main", data=data)
    for sample in SAMPLES:
        run("append", sample, data=data)
    run("seal", "--once", data=data)
    run("project", "--once", data=data)
    return data


def run(*arguments: str | Path, data: Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), f"--data={data}"])
    assert result.exit_code == code, result.output
    return result


def verify(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As whoever gets it does: with Python alone, isolated from everything installed."""
    script = path / "verify.py" if path.is_dir() else path
    program = script if path.is_dir() else Path(__file__).parents[2] / "audit" / "verify_bundle.py"
    return subprocess.run(
        [sys.executable, "-I", "-S", program, path, *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["evidence", "evidence.zip"])
def test_evidence_is_checked_without_simtrail(data: Path, tmp_path: Path, name: str) -> None:
    """A folder or a zip file; events, proofs, tables and their digests; nothing else is left behind."""
    told = run("export", "--evidence", "--personal-data", "--out", tmp_path / name, data=data).stderr
    checked = verify(tmp_path / name)

    assert f"Evidence of positions 1 to {len(SAMPLES)}" in told
    assert checked.returncode == 0, checked.stdout
    assert f"From position 1 to {len(SAMPLES)} no event is left out, put in, or out of order." in checked.stdout
    assert "by simtrail" in checked.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data", name}
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert run("verify", "--bundle", tmp_path / name, data=data).stdout == checked.stdout

    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name) as packed:
            assert packed.testzip() is None
            packed.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / "evidence" if name.endswith(".zip") else tmp_path / name
    about = json.loads((folder / "data" / "bundle.json").read_text())
    refolded = json.loads(run("verify", "--refold", "--json", data=data).stdout)
    assert about["published"]["tables"] == refolded["tables"]["digests"]
    assert about["published"]["position"] == len(SAMPLES)
    package = json.loads((folder / "data" / "tables" / "datapackage.json").read_text())
    (sims,) = [each for each in package["resources"] if each["name"] == "sims"]
    content = (folder / "data" / "tables" / sims["path"]).read_bytes()
    assert sims["hash"].endswith(hashlib.sha256(content).hexdigest())


def test_a_range_is_proven_whole(data: Path, tmp_path: Path) -> None:
    """Its first and last anchor, and nothing of it left out: one event taken out is found by verify.py."""
    with open_to_read(data / "log.db") as log:
        times = [event.delivery.received_at for event in log.after(0)]
    out = tmp_path / "evidence"
    run("export", "--evidence", "--personal-data", f"--from={times[2]}", f"--to={times[6]}", "--out", out, data=data)
    assert "From position 3 to 6 no event is left out" in verify(out).stdout

    lines = (out / "data" / "events.ndjson").read_text().splitlines(keepends=True)
    (out / "data" / "events.ndjson").write_text("".join(lines[:1] + lines[2:]))
    failed = verify(out)
    assert (failed.returncode, failed.stdout.splitlines()[0]) == (1, "FAILED")
    assert run("verify", "--bundle", out, data=data, code=3).stdout == failed.stdout


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--evidence"], 2, "add --personal-data"),
        (["--evidence", "--personal-data", "--source=main"], 2, "leave --source out"),
        (["--evidence", "--personal-data", "--to=2020-01-01"], 1, "no event was received in the range"),
    ],
)
def test_evidence_that_can_not_be_made_says_why(
    data: Path, tmp_path: Path, options: list[str], code: int, told: str
) -> None:
    """And leaves nothing."""
    assert told in run("export", *options, "--out", tmp_path / "out", data=data, code=code).output
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_what_is_not_sealed_yet_is_no_evidence(data: Path, tmp_path: Path) -> None:
    """The range is asked for again a second later."""
    run("append", SAMPLES[0], data=data)
    run("project", "--once", data=data)

    told = run("export", "--evidence", "--personal-data", "--out", tmp_path / "out", data=data, code=1).stderr
    assert f"are sealed up to {len(SAMPLES)} only" in told
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("may-2026.zip", "may-2026"),
        ("evidence.ZIP", "evidence"),
        ("bills of May (2).zip", "bills-of-May-2"),
        ("май.zip", "evidence"),
        ("..zip", "evidence"),
        ("tables.zip", "tables"),
    ],
)
def test_a_packed_bundle_unpacks_to_a_folder_of_its_name(data: Path, tmp_path: Path, name: str, folder: str) -> None:
    """Two bundles can be unpacked side by side; a name that some zip program could not take is made one that all do."""
    run("export", "--evidence", "--personal-data", "--out", tmp_path / name, data=data)
    with zipfile.ZipFile(tmp_path / name) as packed:
        packed.extractall(tmp_path / "unpacked")

    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == [folder]
    assert verify(tmp_path / name).returncode == 0
    assert verify(tmp_path / "unpacked" / folder).returncode == 0


def test_whoever_has_only_a_receipt_gets_the_verifier(data: Path, tmp_path: Path) -> None:
    """`verify --script` writes the file that lies in every bundle, and its digest; never over another."""
    script = tmp_path / "verify.py"
    told = run("verify", "--script", script, data=data).stdout
    run("export", "--evidence", "--personal-data", "--out", tmp_path / "out", data=data)
    assert script.read_bytes() == (tmp_path / "out" / "verify.py").read_bytes()
    assert told == f"{hashlib.sha256(script.read_bytes()).hexdigest()}  {script}\n"
    for taken, said in ((script, "is there already"), (tmp_path / "no" / "verify.py", "can't be written")):
        assert said in run("verify", "--script", taken, data=data, code=1).stderr


def test_what_can_not_be_checked_is_no_verdict(data: Path, tmp_path: Path) -> None:
    """A receipt without a key, or a key mistyped, ends with 1 as what couldn't be done, and not with 3."""
    run("export", "--evidence", "--personal-data", "--out", tmp_path / "out", data=data)
    (tmp_path / "1.tlog-proof").write_text(verify(tmp_path / "out", "--receipt", "1").stdout)
    told = run("verify", "--bundle", tmp_path / "1.tlog-proof", data=data, code=1)
    assert (told.stdout, "give it with --key" in told.stderr) == ("", True)
    assert "is no public key" in run("verify", "--bundle", tmp_path / "out", "--key=x", data=data, code=1).stderr


@pytest.fixture(params=["packed", "folder"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The bundle of an earlier version, as it was packed and unpacked."""
    if request.param == "packed":
        yield GOLDEN
    else:
        shutil.unpack_archive(GOLDEN, tmp_path)
        yield tmp_path / "evidence"


def test_an_earlier_versions_bundle_verifies_with_this_one(golden: Path) -> None:
    """Under the keys that were given out then; and by the verify.py of then."""
    program = Path(__file__).parents[2] / "audit" / "verify_bundle.py"
    for each in [program, *([golden / "verify.py"] if golden.is_dir() else [])]:
        checked = subprocess.run(
            [sys.executable, "-I", "-S", each, golden, "--key", GOLDEN_KEY, "--witness", GOLDEN_WITNESS],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout
        assert "The log's key is the one that you gave" in checked.stdout
        assert "cosigned by witness.example/w, whose key you gave" in checked.stdout
        assert "From position 4 to 7 no event is left out, put in, or out of order." in checked.stdout


def test_every_tenth_byte_of_real_evidence_counts(data: Path, tmp_path: Path) -> None:
    """Each file, each tenth byte and the last one: it fails, and names the file or a position."""
    out = tmp_path / "evidence"
    run("export", "--evidence", "--personal-data", "--out", out, data=data)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    flips = 0
    for path in files:
        content = path.read_bytes()
        name = path.relative_to(out).as_posix()
        # The bag is checked before its content: a hash of each file is all that it takes, so few of the long ones.
        step = max(10, len(content) // 40)
        for at in {*range(0, len(content), step), len(content) - 1} if content else ():
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(Failure) as failure:
                check_bundle(out, [], [], [])
            assert name in str(failure.value) or "manifest-sha256.txt" in name or "position" in str(failure.value)
            flips += 1
        path.write_bytes(content)
    assert flips > 20 * len(files)
    check_bundle(out, [], [], [])
