"""`simtrail export`: what it takes, says and exits with."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit.command import main
from audit.selection import PARTS, PERSONAL
from schema.tables import BY_NAME

ROOT = Path(__file__).parents[3]

RANGED = [name for name, table in BY_NAME.items() if table.key[0] == "position"] + ["files"]


def run(*arguments: str | Path, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(main, ["export", *map(str, arguments)])


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if ".db" not in path.name}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIMTRAIL_")]:
        monkeypatch.delenv(name)


def test_everything_but_personal_data_is_exported(month, tmp_path) -> None:
    """With nothing but a target, all tables that hold no personal data are written as CSV, and what is left out is said."""
    result = run("--data", month.folder, "--out", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} == set(PARTS) - PERSONAL
    (head,) = month.rows("SELECT position FROM tracking")
    written = sum(len(rows(tmp_path / "out", name)) for name in set(PARTS) - PERSONAL)
    assert f"Exported {written:,} rows to {tmp_path / 'out'}, as of position {head['position']}." in result.stderr
    assert "--personal-data" in result.stderr
    assert result.stdout == ""


def test_personal_data_is_exported_when_asked_for(month, tmp_path) -> None:
    """The option adds users, events and bodies."""
    result = run("--data", month.folder, "--out", tmp_path / "out", "--personal-data")

    assert result.exit_code == 0, result.output
    assert {path.stem for path in (tmp_path / "out").iterdir()} - {"datapackage", "files"} == set(PARTS) - {"files"}
    assert "body" in rows(tmp_path / "out", "delivery_contents")[0]
    assert "--personal-data" not in result.stderr


@pytest.mark.parametrize("given_by", ["option", "variable"])
def test_every_option_is_heeded(month, tmp_path, given_by: str) -> None:
    """Range, source, tables, format and target, as options or as variables."""
    settings = {
        "from": "2026-05-08",
        "to": "2026-05-15T03:00:00+03:00",
        "source": "other",
        "tables": "sims, deliveries, delivery_contents",
        "format": "ndjson",
        "out": str(tmp_path / "out"),
        "data": str(month.folder),
    }
    if given_by == "variable":
        prefixes = {"data": "SIMTRAIL_"}
        variables = {
            f"{prefixes.get(name, 'SIMTRAIL_EXPORT_')}{name.upper()}": value for name, value in settings.items()
        }
        result = run(SIMTRAIL_EXPORT_PERSONAL_DATA="1", **variables)
    else:
        result = run("--personal-data", *(f"--{name}={value}" for name, value in settings.items()))

    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    assert left(out) == {"datapackage.json", "sims.ndjson", "deliveries.ndjson", "delivery_contents.ndjson"}
    deliveries = [json.loads(line) for line in (out / "deliveries.ndjson").read_bytes().splitlines()]
    assert {row["source"] for row in deliveries} == {"other"}
    times = [row["received_at"] for row in deliveries]
    assert "2026-05-08" <= min(times) < max(times) < "2026-05-15"
    contents = [json.loads(line) for line in (out / "delivery_contents.ndjson").read_bytes().splitlines()]
    assert [row["position"] for row in contents] == [row["position"] for row in deliveries]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "xlsx"])
def test_every_format_is_written_to_an_archive(month, tmp_path, form: str) -> None:
    """Each format can be chosen, and a target that ends in .zip is one file."""
    result = run("--data", month.folder, "--out", tmp_path / "out.zip", "--format", form, "--tables", "sims")

    assert result.exit_code == 0, result.output
    assert left(tmp_path) == {"out.zip"}
    assert f"sims.{form}".encode() in (tmp_path / "out.zip").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tables", "sims,sim"], "sim can't be exported; what can be is accounts, account_events"),
        (["--tables", "users"], "users: personal data is exported with --personal-data only"),
        (["--tables", ""], "nothing"),
        (["--from", "yesterday"], "'yesterday' is no moment"),
        (["--to", "2026-05-01T00:00:00"], "its zone is missing"),
        (["--from", "2026-05-02", "--to", "2026-05-01"], "the second must be the later one"),
        (["--format", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(month, tmp_path, arguments, said) -> None:
    """What can't be meant is told before anything is read, with what can be."""
    result = run("--data", month.folder, "--out", tmp_path / "out", *arguments)

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert left(tmp_path) == set()


def test_a_target_is_required(month) -> None:
    """Where to is for people to say."""
    assert run("--data", month.folder).exit_code == 2


def test_what_can_not_be_done_is_told_in_a_line_and_exits_with_1(month, site, tmp_path) -> None:
    """No data folder, no read model, an unknown source, a target that is there: one line says why."""
    (tmp_path / "there").write_text("mine")
    for arguments, said in (
        (["--data", tmp_path / "none", "--out", tmp_path / "out"], "there is no data folder"),
        (["--data", site.folder, "--out", tmp_path / "out"], "there is no read model"),
        (
            ["--data", month.folder, "--out", tmp_path / "out", "--source", "x"],
            "nothing was received from a source 'x'",
        ),
        (["--data", month.folder, "--out", tmp_path / "there"], "there already"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert said in result.stderr
        assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert left(tmp_path) == {"there", "data"}


def test_what_is_not_projected_yet_is_told(site, tmp_path) -> None:
    """Where the log goes on behind the snapshot, and the range does too, people are told."""
    site.send({"type": "package_empty", "items": [{"id": 1}]})
    site.project()
    site.send({"type": "package_empty", "items": [{"id": 2}]})

    assert "The log goes on to position 2" in run("--data", site.folder, "--out", tmp_path / "out1").stderr
    behind = run("--data", site.folder, "--out", tmp_path / "out2", "--to", "2026-05-02")
    assert (behind.exit_code, "`simtrail project --once`" in behind.stderr) == (1, True)
    site.project()
    assert "goes on" not in run("--data", site.folder, "--out", tmp_path / "out3").stderr


def test_what_waits_for_a_rebuild_is_told(site, tmp_path) -> None:
    """Where the projector goes on only after a person did something, it is not the projector that people are sent to."""
    site.send({"type": "package_empty", "items": [{"id": 1}]})
    site.project()
    configuration = site.folder / "simtrail.toml"

    def told(settings: str) -> str:
        configuration.write_text(settings)
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        return run("--data", site.folder, "--out", out).stderr.splitlines()[-1]

    assert "goes on" not in told("redelivery_window_s = 60")
    site.send({"type": "package_empty", "items": [{"id": 2}]})
    assert told("redelivery_window_s = 60") == (
        f"The log goes on to position 2: the read model was made with another configuration than {configuration} is now: "
        "`simtrail rebuild` brings it up."
    )
    assert "`simtrail project` can't start, since the configuration" in told("redelivery_window_s =")
    assert told("") == "The log goes on to position 2: `simtrail project` brings the read model up."


def test_a_range_without_events_is_told(month, tmp_path) -> None:
    """The files are there, whole and without rows; that nothing was received is said, and only then."""
    early = run(
        "--data", month.folder, "--out", tmp_path / "early", "--to", "2020-01-01", "--tables", "deliveries,sims"
    )
    assert (early.exit_code, "No event was received in that range" in early.stderr) == (0, True)
    assert rows(tmp_path / "early", "deliveries") == []
    assert rows(tmp_path / "early", "sims")
    for name, options in (("states", ["--to=2020-01-01", "--tables=sims"]), ("all", [])):
        assert "No event" not in run("--data", month.folder, "--out", tmp_path / name, *options).stderr


def test_help_says_how_a_range_applies() -> None:
    """The help names every part, under the rule that applies to it."""
    shown = " ".join(run("--help").stdout.split())
    ranged = shown.split("A range takes")[1].split("With files")[0]
    whole = shown.split("taken whole")[1].split(".")[0]
    personal = shown.split("taken whole")[1].split(".")[1]

    def named(text: str) -> set[str]:
        return {word.strip(",.:") for word in text.split()} & set(PARTS)

    assert named(ranged) == {*RANGED, "events"}
    assert named(whole) == set(PARTS) - {*RANGED, "events"}
    assert named(personal) - {"deliveries"} == PERSONAL & set(PARTS)


DOCUMENTED = [
    line.partition("#")[0].strip()
    for name in ("README.md", "docs/exporting.md")
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    if line.startswith("    simtrail export ")
]


@pytest.mark.parametrize("command", DOCUMENTED)
def test_documented_commands_do_what_they_say(month, tmp_path, monkeypatch, command: str) -> None:
    """Each example of the documents writes what it names."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[2:]
    result = run(*arguments, SIMTRAIL_DATA=str(month.folder))

    assert result.exit_code == 0, result.output
    assert left(tmp_path) == {arguments[arguments.index("--out") + 1]}


PAUSING = """
import os, sys, time
from audit import destination
from audit.command import main

def pause(_descriptor):
    os.write(1, b"writing")
    while True:  # Not signal.pause(): a signal that comes just before it would be slept through.
        time.sleep(0.01)

destination.os.fsync = pause
main(["export", *sys.argv[1:]])
"""
"""A process of its own that stops in the middle of writing, and says so."""


@pytest.mark.parametrize("target", ["out", "out.zip"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(month, tmp_path, environment, target: str, number: signal.Signals) -> None:
    """Ctrl-C exits with 130 and SIGTERM with 143, and neither leaves anything."""
    arguments = ["--data", str(month.folder), "--out", str(tmp_path / target)]
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PAUSING, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(7) == b"writing"
            assert len(left(tmp_path)) == 1
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()  # Else it would be waited for without end where one of these fails.

    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert left(tmp_path) == set()
    assert b"Traceback" not in told


SLOW_PARQUET = """
import os
from audit import parquet

start = parquet.Thread.start

def tell(thread):
    start(thread)
    os.write(1, b"writing")

parquet.Thread.start = tell
parquet._copy = lambda *_: "COPY (SELECT md5(i::VARCHAR) FROM range(10000000000) t(i)) TO '/dev/null' (FORMAT csv)"
"""
"""DuckDB at work for hours, and a word when it has begun."""


def test_a_signal_ends_the_writing_of_parquet(month, tmp_path, environment) -> None:
    """While DuckDB works, Ctrl-C is Ctrl-C, and not an error of DuckDB's."""
    code = SLOW_PARQUET + PAUSING
    arguments = ["--data", str(month.folder), "--out", str(tmp_path / "out"), "--tables", "sims", "--format", "parquet"]
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(7) == b"writing"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, b"Exporting\n\n")
    assert left(tmp_path) == set()
