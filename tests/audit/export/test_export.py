"""What an export holds: one snapshot, whole, of what was asked for, described as it is."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import sqlite3
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from frictionless import Package, Report, validate

from audit import archive
from audit.extract import ExportError
from audit.selection import EVENTS, PARTS, PERSONAL
from schema.errors import LogError, ReadModelError, SourceError
from schema.log import open_to_read
from schema.tables import BY_NAME, TABLES

if TYPE_CHECKING:
    from pathlib import Path

RANGED = {table.name for table in TABLES if table.key[0] == "position"} | {"files"}


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.ndjson").read_bytes().splitlines()]


def resources(package: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {resource["name"]: resource for resource in package["resources"]}


def validated(folder: Path) -> Report:
    """What frictionless says of an export, less the NDJSON files of no rows: it can't read an empty one."""
    descriptor = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    empty = {each["name"] for each in descriptor["resources"] if each["format"] == "ndjson" and not each["rows"]}
    assert all((folder / f"{name}.ndjson").read_bytes() == b"" for name in empty)
    descriptor["resources"] = [each for each in descriptor["resources"] if each["name"] not in empty]
    for each in descriptor["resources"]:
        keys = each["schema"].get("foreignKeys", [])
        each["schema"]["foreignKeys"] = [key for key in keys if key["reference"].get("resource") not in empty]
    shown = folder / "shown.json"
    shown.write_text(json.dumps(descriptor), encoding="utf-8")
    report: Report = validate(str(shown), type="package")
    return report


def entries(made, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    return {entry.path: b"".join(chunk.data for chunk in entry.chunks) for entry in made.entries(folder)}


# A simulated month, by other people's libraries.


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("form", "suffix"), [("csv", ""), ("csv", ".zip"), ("ndjson", ""), ("xlsx", "")])
def test_frictionless_finds_nothing_amiss(month, form: str, suffix: str) -> None:
    """A month validates: hashes, sizes, row counts, types, primary and foreign keys; and rows are the database's."""
    out = month.export(f"valid-{form}{suffix}", form=form)
    report = validate(str(out)) if suffix else validated(out)

    assert report.flatten(["name", "rowNumber", "fieldName", "note"]) == []
    assert report.valid
    counted = {task.name: task.stats.get("rows", 0) for task in report.tasks}
    (deliveries,) = month.rows("SELECT count(*) AS n FROM deliveries")
    expected = {each.name: month.rows(f"SELECT count(*) AS n FROM {each.name}")[0]["n"] for each in TABLES}
    expected[EVENTS] = deliveries["n"]
    assert {name: rows for name, rows in counted.items() if rows} == {
        name: rows for name, rows in expected.items() if rows
    }
    assert deliveries["n"] > 200


@pytest.mark.usefixtures("no_network")
def test_frictionless_finds_what_is_amiss(month) -> None:
    """The check above can fail: a byte, a row or a key changed in the files is found."""
    out = month.export("amiss")
    for name, old, new, found in (
        ("sims.csv", b"main:8970", b"main:8971", "hash-count"),
        ("tracking.csv", b"audit", b"audi", "byte-count"),
        ("sim_events.csv", b",main:", b",mine:", "foreign-key"),
    ):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole.replace(old, new, 1))
        kinds = validate(str(out / "datapackage.json")).flatten(["type"])
        assert [found] in kinds, (name, kinds)
        (out / name).write_bytes(whole)


@pytest.mark.usefixtures("no_network")
def test_a_range_keeps_its_references(month) -> None:
    """The foreign keys that an export of a range and a source states hold within it."""
    out = month.export("range", month.selection(since="2026-05-10", until="2026-05-20T12:00:00Z", source="main"))
    report = validate(str(out / "datapackage.json"))

    assert report.flatten(["name", "rowNumber", "fieldName", "note"]) == []
    keys = Package(str(out / "datapackage.json")).get_resource("sim_events").schema.foreign_keys
    assert ["position"] in [key["fields"] for key in keys]
    assert ["sim"] in [key["fields"] for key in keys]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_duckdb_reads_what_the_database_holds(month, form: str) -> None:
    """Reread into DuckDB, each table has the rows of the database; parquet their values too."""
    out = month.export(f"duck-{form}", form=form)

    with closing(duckdb.connect(":memory:")) as connection:
        for each in TABLES:
            file = out / f"{each.name}.{form}"
            source = f"'{file}'" if form == "parquet" else f"read_csv('{file}', header = true, all_varchar = true)"
            (mine,) = month.rows(f"SELECT count(*) AS n FROM {each.name}")
            assert connection.execute(f"SELECT count(*) FROM {source}").fetchone() == (mine["n"],), each.name
        if form == "parquet":
            read = connection.execute(f"SELECT sim, status, tariff, groups FROM '{out}/sims.parquet'").fetchall()
            mine = month.rows("SELECT sim, status, tariff, groups FROM sims ORDER BY sim")
            assert read == [tuple(row.values()) for row in mine]


# What it says of itself.


def test_the_descriptor_says_what_the_files_are(month, package) -> None:
    """Bytes, SHA-256, rows and positions of each resource are those of its file."""
    out = month.export("described")
    told = package(out)
    described = resources(told)

    assert set(described) == set(PARTS)
    for name, resource in described.items():
        data = (out / resource["path"]).read_bytes()
        assert resource["bytes"] == len(data)
        assert resource["hash"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        rows = events(out) if name == EVENTS else table(out, name)
        assert resource["rows"] == len(rows)
        positions = [int(row["position"]) for row in rows]
        assert resource["positions"] == ({"first": min(positions), "last": max(positions)} if rows else None)
        assert resource["holds"] == ("range" if name in RANGED | {EVENTS} else "state")
    (tracking,) = month.rows("SELECT * FROM tracking")
    assert told["simtrail"]["snapshot"] == {
        key: tracking[key] for key in ("position", "received_at", "model_version", "configuration")
    }
    assert told["simtrail"]["log_head"] == tracking["position"]
    assert told["created"] == "2026-07-01T00:00:00.000000Z"
    assert told["$schema"] == "https://datapackage.org/profiles/2.0/datapackage.json"


def test_tables_have_a_schema(month, package) -> None:
    """Each table's schema has the columns of the database in order, with type, meaning, key and references."""
    described = resources(package(month.export("schemas")))
    for each in TABLES:
        schema = described[each.name]["schema"]
        names = ["path" if name == "content" else name for name in each.columns]
        assert [field["name"] for field in schema["fields"]] == names
        assert schema["primaryKey"] == list(each.key)
        referred = {
            key["fields"][0]: key["reference"].get("resource", each.name) for key in schema.get("foreignKeys", [])
        }
        assert referred == {column: other for column, (other, _) in each.references.items()}
    fields = {field["name"]: field for field in described["sims"]["schema"]["fields"]}
    assert fields["iccid"] == {"name": "iccid", "type": "string", "description": "ICCID, 17 to 22 digits."}
    assert fields["status_since"]["type"] == "datetime"
    attributes = {field["name"]: field for field in described["sim_attributes"]["schema"]["fields"]}
    assert attributes["attributes"]["type"] == "object"
    assert fields["balance_kopecks"]["type"] == "integer"
    assert fields["position"]["constraints"] == {"required": True, "minimum": 1}
    bills = {field["name"]: field["type"] for field in described["bills"]["schema"]["fields"]}
    assert (bills["issued_on"], bills["paid_at"]) == ("date", "datetime")
    assert "apostrophe" in described["sims"]["description"]


def test_the_same_snapshot_gives_the_same_bytes(month) -> None:
    """Nothing but the time of the export tells two exports of a snapshot apart, nor two archives."""
    one, other = (month.export(f"same-{number}", form="ndjson") for number in "12")
    for path in sorted(one.rglob("*")):
        assert path.is_dir() or path.read_bytes() == (other / path.relative_to(one)).read_bytes()
    packed = [month.export(f"same-{number}.zip").read_bytes() for number in "12"]
    assert packed[0] == packed[1]


# Which rows.


def test_a_range_takes_from_its_first_moment_and_stops_before_its_last(site, package) -> None:
    """Histories have what was received from the first moment on and before the second; states are whole."""
    early, at, until = (
        site.send({"type": "package_empty", "items": [{"iccid": f"897010000000000001{n}"}]}, after=timedelta(hours=1))
        for n in range(3)
    )
    site.project()
    selection = site.selection(since="2026-05-01T02:00:00Z", until="2026-05-01T06:00:00+03:00")
    out = site.export("out", selection)

    assert [int(row["position"]) for row in table(out, "deliveries")] == [at]
    assert [int(row["position"]) for row in table(out, "sim_events")] == [at]
    assert [event["position"] for event in events(out)] == [at]
    assert [int(row["position"]) for row in table(out, "sims")] == [early, at, until]
    assert resources(package(out))["deliveries"]["positions"] == {"first": at, "last": at}
    assert package(out)["simtrail"]["range"] == {
        "from": "2026-05-01T02:00:00.000000Z",
        "to": "2026-05-01T03:00:00.000000Z",
        "source": None,
    }


def test_a_delivery_numbered_before_an_earlier_one_is_in_its_own_range(site) -> None:
    """Receipt decides, not the position: deliveries of one commit may be numbered in the other order."""
    for after in (5, -3, 4):
        site.send({"type": "package_empty", "items": [{"id": after}]}, after=timedelta(seconds=after))
    site.project()
    received = ["2026-05-01T00:00:05Z", "2026-05-01T00:00:02Z", "2026-05-01T00:00:06Z"]

    for position, since in enumerate(received, 1):
        until = f"{since[:-1]}.000001Z"
        out = site.export(f"out{position}", site.selection(since=since, until=until))
        assert [event["position"] for event in events(out)] == [position]
        assert [row["position"] for row in table(out, "sim_events")] == [str(position)]


def test_each_table_is_what_its_rule_says(month) -> None:
    """By another way round: every row of a history by its delivery's time and source, every state's by its source."""
    since, until = "2026-05-08T00:00:00.000000Z", "2026-05-15T00:00:00.000000Z"
    out = month.export("rule", month.selection(since=since, until=until, source="other"))
    given: tuple[str, ...]
    within = "SELECT position FROM deliveries WHERE received_at >= ? AND received_at < ? AND source = 'other'"

    for each in TABLES:
        if each.name == "files":
            where, given = f"sha256 IN (SELECT sha256 FROM delivery_files WHERE position IN ({within}))", (since, until)
        elif each.name in RANGED:
            where, given = f"position IN ({within})", (since, until)
        elif each.name in {"sim_attributes", "bill_attributes"}:  # Of no source, but that of their card or bill.
            where, given = f"{each.key[0]} LIKE 'other:%'", ()
        else:
            where, given = ("source = 'other'" if "source" in each.columns else "1"), ()
        key = ", ".join(each.key)
        expected = month.rows(f"SELECT {key} FROM {each.name} WHERE {where} ORDER BY {key}", *given)
        mine = [{name: row[name] for name in each.key} for row in table(out, each.name)]
        assert mine == [{name: str(value) for name, value in row.items()} for row in expected], each.name
    assert len(table(out, "sim_events")) > 10


def test_a_file_is_exported_with_each_range_that_it_came_in(site) -> None:
    """A file first received before the range is in it, if it came again within."""
    file = {"type": "base64", "format": "application/pdf", "name": "a.pdf", "body": "JVBERi0xLjQK"}
    for number in range(3):
        files = [file] if number != 1 else []
        site.send({"type": "generate_bill", "files": files, "items": [{"id": number}]}, after=timedelta(days=1))
    site.project()

    held = [
        [path.name for path in (site.export(f"out{day}", site.selection(since=f"2026-05-0{day}", until=f"2026-05-0{day + 1}"))).rglob("*.pdf")]
        for day in (2, 3, 4)
    ]  # fmt: skip
    name = hashlib.sha256(b"%PDF-1.4\n").hexdigest() + ".pdf"
    assert held == [[name], [], [name]]


def test_only_the_parts_asked_for_are_there(month, package) -> None:
    """Two tables make two files and a descriptor, which refers to nothing else and says what was left out."""
    out = month.export("two", month.selection(["sims", "sim_events"]))

    assert sorted(path.name for path in out.iterdir()) == ["datapackage.json", "sim_events.csv", "sims.csv"]
    told = package(out)
    keys = resources(told)["sim_events"]["schema"]["foreignKeys"]
    assert [key["reference"]["resource"] for key in keys] == ["sims"]
    assert told["simtrail"]["left_out"] == [part for part in PARTS if part not in {"sims", "sim_events"}]
    assert told["simtrail"]["contents"]["files"] == 0


def test_a_source_that_never_sent_is_refused(month) -> None:
    """A misspelt source is an error that names those that sent, not an export of nothing."""
    with pytest.raises(SourceError, match=r"'mian'.*main, other"):
        month.export("mian", month.selection(source="mian"))


@pytest.mark.usefixtures("no_network")
def test_an_empty_read_model_is_exported(site, package) -> None:
    """Before the first delivery every table is there, without rows."""
    site.project()
    for form in ("csv", "ndjson", "parquet", "xlsx"):
        out = site.export(form, form=form)
        assert {name: each["rows"] for name, each in resources(package(out)).items() if each["rows"]} == {"tracking": 1}
        assert package(out)["simtrail"]["snapshot"]["position"] == 0
        if form != "parquet":
            assert validated(out).flatten(["name", "note"]) == []


# Whose eyes it is for.


def test_personal_data_is_taken_only_by_who_may_have_it(month, package) -> None:
    """Without leave, no part that holds personal data is there, no body, and no name of a user in any file."""
    out = month.export("public", month.selection(personal=False))

    assert set(resources(package(out))) == set(PARTS) - PERSONAL
    assert package(out)["simtrail"]["left_out"] == [part for part in PARTS if part in PERSONAL]
    users = {row["last_name"] for row in month.rows("SELECT last_name FROM users")}
    assert "Петрова" in users
    text = "".join(path.read_text(encoding="utf-8") for path in out.glob("*.csv"))
    assert [name for name in users if name in text] == []
    assert "Петрова" in (month.export("private") / "users.csv").read_text(encoding="utf-8")


# The events and the files.


def test_events_hold_bodies_as_received(month) -> None:
    """Each event of the log is a line, its body byte for byte, as text where it is UTF-8 and else in base64."""
    out = month.export("bodies")
    with open_to_read(month.log) as log:
        expected = {event.position: event.delivery for event in log.after(0, max_events=100_000)}

    told = {event["position"]: event for event in events(out)}
    assert list(told) == list(expected)
    encodings = set()
    for position, delivery in expected.items():
        event = told[position]
        encodings.add(event["body_encoding"])
        body = base64.b64decode(event["body"]) if event["body_encoding"] == "base64" else event["body"].encode()
        assert body == delivery.body
        assert event["sha256"] == hashlib.sha256(body).hexdigest()
        assert (event["source"], event["received_at"], event["headers"], event["remote"], event["topic"]) == (
            delivery.source,
            delivery.received_at,
            delivery.headers,
            delivery.remote,
            "webhook.received",
        )
    assert encodings == {"utf-8", "base64"}
    for line in (out / "events.ndjson").read_text(encoding="utf-8").split("\n")[:-1]:
        assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_files_have_safe_names(month, package) -> None:
    """A file's name is its SHA-256 and a suffix of ours; the sender's name is text in a table, and no path."""
    out = month.export("files")
    paths = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]

    listed = {row["path"]: row for row in table(out, "files")}
    assert {path for path in paths if "/" in path} == set(listed)
    for path, row in listed.items():
        assert re.fullmatch(r"files/[0-9a-f]{64}\.(pdf|bin)", path)
        data = (out / path).read_bytes()
        assert (row["sha256"], int(row["content_bytes"])) == (hashlib.sha256(data).hexdigest(), len(data))
        assert path.endswith(".pdf") == (row["media_type"] == "application/pdf")
    assert "'../../=cmd|'/C calc'!A0" not in {row["name"] for row in table(out, "delivery_files")}
    assert "../../=cmd|'/C calc'!A0" in {row["name"] for row in table(out, "delivery_files")}
    contents = package(out)["simtrail"]["contents"]
    assert contents == {"folder": "files", "files": len(listed), "bytes": sum(int(row["content_bytes"]) for row in listed.values())}  # fmt: skip


# One snapshot, or none.


def test_what_is_written_meanwhile_does_not_show(site) -> None:
    """The snapshot stands from the first look to the last byte, whatever the projector commits between."""
    for number in range(50):
        site.send({"type": "package_empty", "items": [{"id": number}]})
    site.project()
    with site.prepare(site.selection()) as made:
        before = entries(made, site.folder / "scratch")
    after = {}
    with site.prepare(site.selection()) as made:
        for entry in made.entries(site.folder):
            after[entry.path] = b"".join(chunk.data for chunk in entry.chunks)
            site.send({"type": "package_empty", "items": [{"id": "new"}, {"id": 1}]})
            site.project()

    assert after == before
    assert json.loads(after["datapackage.json"])["simtrail"]["snapshot"]["position"] == 50
    assert site.rows("SELECT position FROM tracking") == [{"position": 50 + len(before)}]


def test_a_read_model_behind_a_range_that_has_ended_is_refused(site) -> None:
    """An export of a past range is all of it: what the log holds of it must be in the tables."""
    site.send({"type": "package_empty", "items": [{"id": 1}]})
    site.project()
    site.send({"type": "package_empty", "items": [{"id": 2}]}, after=timedelta(hours=1), source="late")

    with pytest.raises(ReadModelError, match=r"position 1, .*position 2 on: `simtrail project"):
        site.export("out", site.selection(until="2026-05-02"))
    site.export("out1", site.selection(until="2026-05-01T00:30:00Z"))
    site.export("out2", site.selection(until="2026-05-02", source="main"))


def test_a_range_that_goes_on_ends_at_the_snapshot(site, package) -> None:
    """Of a range without an end, or one to come, the export holds what the tables do, and says so."""
    site.send({"type": "package_empty", "items": [{"id": 1}]})
    site.project()
    site.send({"type": "package_empty", "items": [{"id": 2}]})

    for number, until in enumerate((None, "2026-07-01T00:00:00.000001Z")):
        out = site.export(f"out{number}", site.selection(until=until))
        assert [event["position"] for event in events(out)] == [1]
        assert package(out)["simtrail"]["snapshot"]["position"] == 1
        assert package(out)["simtrail"]["log_head"] == 2


def test_a_log_with_other_events_than_the_tables_is_refused(site) -> None:
    """Where the log lacks what the read model was made from, there is no export."""
    for number in range(3):
        site.send({"type": "package_empty", "items": [{"id": number}]})
    site.project()
    columns = ", ".join(f'"{name}"' for name in BY_NAME["deliveries"].columns if name != "position")
    site.change(f"INSERT INTO deliveries (position, {columns}) SELECT 4, {columns} FROM deliveries WHERE position = 3")

    with pytest.raises(ExportError, match="events has 4 rows, and 3 were read"):
        site.export("out")
    assert not (site.folder / "out").exists()


def test_a_file_whose_content_changed_is_refused(site) -> None:
    """A file that isn't what its name says is not exported under it."""
    file = {"type": "base64", "format": "application/pdf", "name": "a.pdf", "body": "JVBERi0xLjQK"}
    site.send({"type": "generate_bill", "files": [file], "items": [{"id": 1}]})
    site.project()
    site.change("UPDATE files SET sha256 = ?", "../../etc/passwd")

    with pytest.raises(ExportError, match="SHA-256"):
        site.export("out")
    assert not (site.folder / "out").exists()


def test_a_read_model_that_is_not_there_or_not_ours_is_refused(site) -> None:
    """Without a read model, or with one of another version or without its position, there is no export."""
    with pytest.raises(ReadModelError, match="there is no read model"):
        site.export("out")
    site.project()
    site.change("UPDATE tracking SET model_version = 0")
    with pytest.raises(ReadModelError, match="version 0"):
        site.export("out")
    site.change("DELETE FROM tracking")
    with pytest.raises(ReadModelError, match="position"):
        site.export("out")
    site.read_model.write_bytes(b"no database at all" * 100)
    with pytest.raises(ReadModelError, match="can't be read"):
        site.export("out")
    assert not (site.folder / "out").exists()


def test_a_log_that_is_not_there_is_an_error(month, tmp_path) -> None:
    """The read model alone is not exported: that it is whole can't be told without the log."""
    copy = type(month)(tmp_path)
    shutil.copy(month.read_model, copy.read_model)
    copy.close()
    copy.log.unlink()
    with pytest.raises(LogError, match="no log"):
        copy.export("out")


# As a stream.


def test_an_archive_can_be_streamed_from_thread_to_thread(month, tmp_path) -> None:
    """An answer may ask for each piece from another thread; together they are the archive, and none is large."""
    with month.prepare(month.selection()) as made:
        chunks = archive.pack(made.entries(tmp_path))
        pieces = []
        while True:
            with ThreadPoolExecutor(1) as thread:
                chunk = thread.submit(next, chunks, None).result()
            if chunk is None:
                break
            pieces.append(chunk)

    assert sum(chunk.rows for chunk in pieces) == made.rows
    whole = b"".join(chunk.data for chunk in pieces)
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        assert packed.testzip() is None
        assert packed.namelist()[-1] == "datapackage.json"
        assert {info.external_attr >> 16 for info in packed.infolist()} == {0o600}
    assert max(len(chunk.data) for chunk in pieces) < 1_000_000
    assert whole == month.export("streamed.zip").read_bytes()


def test_an_archive_that_was_cut_short_is_none(month, tmp_path) -> None:
    """The list of an archive comes last: a stream that ended early can't be taken for an export."""
    with month.prepare(month.selection(["sims", "deliveries"])) as made:
        pieces = [chunk.data for chunk in archive.pack(made.entries(tmp_path))]

    for count in range(len(pieces)):
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(b"".join(pieces[:count])))


def test_a_stream_that_is_given_up_lets_go_of_the_database(site) -> None:
    """Who stops reading leaves no transaction behind: the write-ahead log can be taken in again."""
    for number in range(30):
        site.send({"type": "package_empty", "items": [{"id": number}]})
    site.project()
    with site.prepare(site.selection()) as made, closing(archive.pack(made.entries(site.folder))) as chunks:
        next(chunks)

    with closing(sqlite3.connect(site.read_model)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
