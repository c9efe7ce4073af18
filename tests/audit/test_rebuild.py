"""The commands that read the log anew: `rebuild`, `asof`, and `correct`, which says what no webhook told."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from audit import platform
from audit.command import main
from audit.publish import metadata_path
from bench import callbacks
from projections import read_model, rebuild
from schema.configuration import Configuration
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Eventually, Serve, Start

BODY = json.dumps(
    {
        "qid": "q-1",
        "queue": "sim_hold",
        "items": [{"iccid": "8970100000000000013"}],
        "status": {"count": 1, "process": 1, "percentage": 100},
    },
)
BILL = json.dumps({"type": "unpaid_bill_6", "items": [{"id": 501, "amount": "5"}]})
SAID = ("--by", "A. Auditor", "--why", "seen on paper")


def run(*arguments: object, data: Path, **options: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), f"--data={data}"], **options)  # type: ignore[arg-type]


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def project(data: Path) -> None:
    result = run("project", "--once", data=data)
    assert result.exit_code == 0, result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A projected data folder with a job of a queue that no configuration knows, and an unpaid bill."""
    folder = tmp_path / "data"
    assert run("sources", "add", "main", data=folder).exit_code == 0
    for name, body in (("1.json", BODY), ("2.json", BILL)):
        (tmp_path / name).write_text(body)
        assert run("append", tmp_path / name, data=folder).exit_code == 0
    project(folder)
    return folder


@pytest.fixture
def learned(data: Path) -> Path:
    """The same, with a configuration that has since learned the queue's code."""
    (data / "simtrail.toml").write_text('[queues]\nsim_hold = "lock"\n')
    return data


def test_nothing_differs_where_nothing_has_changed(data: Path) -> None:
    """The same reading again: exit code 0, and the swap is recorded all the same."""
    assert run("rebuild", "--dry-run", data=data).exit_code == 0
    result = run("rebuild", "--reason", "to be sure", data=data)
    assert result.exit_code == 0, result.output
    assert "no row of any table differs" in result.output
    found = rows(data / "audit.db", "SELECT reason, position, rows_changed, digests_before = digests FROM rebuilds")
    assert found == [("to be sure", 2, 0, 1)]


@pytest.mark.parametrize("name", ["report.ndjson", "report.csv"])
def test_a_dry_run_shows_what_a_fix_would_change(learned: Path, tmp_path: Path, name: str) -> None:
    """Exit code 1, each changed row in the report, and nothing touched."""
    result = run("rebuild", "--dry-run", "--report", tmp_path / name, data=learned)
    assert result.exit_code == 1, result.output
    assert [line.split() for line in result.stdout.splitlines()[2:]] == [
        ["jobs", "0", "0", "1"],
        ["sims", "0", "0", "1"],
        ["sim_events", "0", "0", "1"],
    ]
    with (tmp_path / name).open(newline="") as report:
        if name.endswith(".csv"):
            told = {(row["table"], row["column"]): (row["before"], row["after"]) for row in csv.DictReader(report)}
        else:
            changes = [json.loads(line) for line in report]
            told = {(one["table"], column): tuple(sides) for one in changes for column, sides in one["columns"].items()}
            assert {one["position"] for one in changes} == {1}
    assert told["sims", "status"] == ("unknown", "blocked")
    assert rows(learned / "audit.db", "SELECT status FROM sims") == [("unknown",)]
    assert list(learned.glob("audit.db.new*")) == []


def test_a_model_that_differs_is_not_swapped_unasked(learned: Path) -> None:
    """Without a terminal there is nobody to ask: --yes must have been said."""
    result = run("rebuild", data=learned)
    assert result.exit_code == 1
    assert "--yes" in result.output
    assert rows(learned / "audit.db", "SELECT status FROM sims") == [("unknown",)]


def test_yes_swaps_and_records_the_difference(learned: Path) -> None:
    """What the rebuild changed is published with it."""
    result = run("rebuild", "--yes", data=learned)
    assert result.exit_code == 0, result.output
    assert rows(learned / "audit.db", "SELECT status FROM sims") == [("blocked",)]
    assert rows(learned / "audit.db", "SELECT reason, rows_changed FROM rebuilds") == [("another configuration", 3)]
    (columns,) = rows(learned / "audit.db", "SELECT columns FROM rebuild_changes WHERE table_name = 'sims'")[0]
    assert json.loads(str(columns))["status"] == ["unknown", "blocked"]
    project(learned)


def test_projecting_refuses_another_configuration(learned: Path) -> None:
    """Rows of two readings are never mixed; the message says what to do."""
    result = run("project", "--once", data=learned)
    assert result.exit_code == 1
    assert "simtrail rebuild" in result.output


def test_a_rebuild_needs_a_read_model(tmp_path: Path) -> None:
    """There is nothing to compare with before the first projection."""
    run("sources", "add", "main", data=tmp_path)
    (tmp_path / "1.json").write_text(BODY)
    run("append", tmp_path / "1.json", data=tmp_path)
    result = run("rebuild", data=tmp_path)
    assert (result.exit_code, "simtrail project" in result.output) == (1, True)


def test_as_of_a_moment_or_a_position(data: Path, tmp_path: Path) -> None:
    """The read model as it stood, in a file of its own that is never written over."""
    result = run("asof", "--position", 1, tmp_path / "one.db", data=data)
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "one.db", "SELECT count(*) FROM bills") == [(0,)]
    (received_at,) = rows(data / "audit.db", "SELECT received_at FROM deliveries WHERE position = 2")[0]
    assert run("asof", received_at, tmp_path / "two.db", data=data).exit_code == 0
    assert rows(tmp_path / "two.db", "SELECT stage FROM bills") == [("unpaid_6",)]
    assert (tmp_path / "two.db").stat().st_mode & 0o077 == 0
    none = run("asof", "2020-01-01", tmp_path / "none.db", data=data)
    assert (none.exit_code, "Nothing had been received by then" in none.stderr) == (0, True)
    assert "Nothing" not in result.stderr
    assert read_model.tracked(tmp_path / "none.db") == 0
    assert run("asof", "2020-01-01", tmp_path / "two.db", data=data).exit_code == 1
    assert run("asof", "2020-01-01", data=data).exit_code == 2
    assert run("asof", "noon", tmp_path / "three.db", data=data).exit_code == 1
    nowhere = run("asof", "2020-01-01", tmp_path / "no" / "such.db", data=data)
    assert (nowhere.exit_code, "there is no folder" in nowhere.stderr) == (1, True)


def test_as_of_what_is_still_to_come_is_told(data: Path, tmp_path: Path) -> None:
    """A moment or a position that the log has not reached is taken, and what it lacks is said; of one that it has, nothing is."""
    (head,) = rows(data / "audit.db", "SELECT max(position) FROM deliveries")[0]
    (received_at,) = rows(data / "audit.db", "SELECT max(received_at) FROM deliveries")[0]
    told = []
    asked: list[list[object]] = [["9999-01-01"], [received_at], ["--position", 9999], ["--position", head]]
    for number, when in enumerate(asked):
        result = run("asof", *when, tmp_path / f"{number}.db", data=data)
        assert (result.exit_code, read_model.tracked(tmp_path / f"{number}.db")) == (0, head)
        told.append([line for line in result.stderr.splitlines() if "not in it" in line])

    assert told == [
        ["9999-01-01T00:00:00.000000Z is still to come: what is received until then is not in it."],
        [],
        ["The log goes no further yet: what comes up to position 9999 is not in it."],
        [],
    ]


def test_the_past_is_published_beside_the_present(
    data: Path, tmp_path: Path, start: Start, eventually: Eventually
) -> None:
    """`publish --with` shows what asof made under its file's name, described and asked as the live one is."""
    assert run("asof", "--position", 1, tmp_path / "then.db", data=data).exit_code == 0
    publishing = start("publish", f"--data={data}", "--port=0", f"--with={tmp_path / 'then.db'}")
    url = eventually(lambda: publishing.said(r"^Publishing at (\S+)/;"))
    answered = eventually(lambda: _answer(f"{url}/then.json"))
    assert [row["status"] for row in _rows(f"{url}/then/sim_status")] == ["unknown"]
    assert _rows(f"{url}/then/bills_open") == []
    assert [row["bill"] for row in _rows(f"{url}/audit/bills_open")] == ["main:501"]
    assert {query["name"] for query in answered["queries"]} == {
        query["name"] for query in httpx.get(f"{url}/audit.json").json()["queries"]
    }
    assert "as of position 1, received 20" in httpx.get(f"{url}/then").text
    assert "One row for each" in httpx.get(f"{url}/then/sim_events").text
    assert publishing.stop(signal.SIGINT) == 0


def test_two_read_models_of_one_name_are_not_published(data: Path, tmp_path: Path) -> None:
    """Datasette names a database by its file: one could be taken for the other."""
    assert run("asof", "--position", 1, tmp_path / "audit.db", data=data).exit_code == 0
    refused = run("publish", "--port=0", "--with", tmp_path / "audit.db", data=data)
    assert (refused.exit_code, "can't both be published as audit" in refused.output) == (1, True)
    (tmp_path / "empty.db").touch()
    refused = run("publish", "--port=0", "--with", tmp_path / "empty.db", data=data)
    assert (refused.exit_code, "`simtrail asof` makes one" in refused.output) == (1, True)


def _answer(url: str) -> dict[str, list[dict[str, object]]] | None:
    try:
        answer: dict[str, list[dict[str, object]]] = httpx.get(url).json()
    except httpx.TransportError:
        return None
    return answer


def _rows(page: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = httpx.get(f"{page}.json?_shape=array").json()
    return found


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A projected month of a simulated platform, one of its cards and bills corrected."""
    folder = tmp_path_factory.mktemp("lived")
    start = datetime(2025, 12, 1, tzinfo=UTC)
    with open_to_append(folder / "log.db") as log:
        for n, body in enumerate(platform.deliveries(7, 900, 60, start)):
            at = start + n * timedelta(minutes=45)
            delivery = Delivery(instant(at), "main", "127.0.0.1", {}, body)
            log.append([WebhookReceived(uuid7(at, Random(n).randbytes), 1, delivery)])  # noqa: S311 - to be foreseen
    project(folder)
    (bill,), (sim,) = rows(folder / "audit.db", "SELECT bill FROM bills LIMIT 1") + rows(
        folder / "audit.db", "SELECT sim FROM sims LIMIT 1"
    )
    assert run("correct", "bill", bill, "--not-paid", *SAID, data=folder).exit_code == 0
    assert run("correct", "sim", sim, "--status", "terminated", *SAID, data=folder).exit_code == 0
    project(folder)
    return folder


@pytest.mark.parametrize("position", [1, 60, 333, 640, 900, 901, 902])
def test_asof_and_the_queries_as_of_say_the_same(lived: Path, tmp_path: Path, position: int) -> None:
    """What `simtrail asof MOMENT` makes and what the canned queries say of that moment are one answer."""
    ((moment,),) = rows(lived / "audit.db", f"SELECT received_at FROM deliveries WHERE position = {position}")
    then = tmp_path / "then.db"
    assert run("asof", moment, then, data=lived).exit_code == 0
    assert read_model.tracked(then) == position
    asked = yaml.safe_load(metadata_path().read_text())["databases"]["audit"]["queries"]

    def answers(name: str) -> list[dict[str, object]]:
        parameters = dict.fromkeys(asked[name]["params"], "") | {"moment": str(moment)}
        with closing(sqlite3.connect(lived / "audit.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(asked[name]["sql"], parameters)]

    status = ("source", "status", "status_basis", "effective_status", "effective_basis", "account_state")
    # By IMSI, which each has: a card first seen without its ICCID has another key since.
    shown = {(row["imsi"], *(row[column] for column in status)) for row in answers("sims_as_of")}
    assert shown == set(rows(then, f"SELECT imsi, {', '.join(status)} FROM sim_status"))

    bill = ("bill", "stage", "stage_at", "amount_rubles", "next_notice_expected_on", "presumed_settled_on")
    told = {tuple(row[column] for column in bill) for row in answers("open_bills_as_of")}
    assert told == set(rows(then, f"SELECT {', '.join(bill)} FROM bills_open"))


@pytest.mark.parametrize(
    ("words", "sql", "expected"),
    [
        (("bill", "main:501", "--paid-at", "2026-05-01"), "SELECT paid_at FROM bills", "2026-05-01T00:00:00.000000Z"),
        (("sim", "main:8970100000000000013", "--status", "terminated"), "SELECT status FROM sims", "terminated"),
        (("account", "main", "--state", "good"), "SELECT state FROM accounts", "good"),
        (("void", "2"), "SELECT count(*) FROM bills", 0),
    ],
)
def test_a_correction_is_an_event_that_counts(data: Path, words: tuple[str, ...], sql: str, expected: object) -> None:
    """It prints its position, is projected, and names who said it and why."""
    result = run("correct", *words, *SAID, data=data)
    assert (result.exit_code, result.stdout) == (0, "3\n"), result.output
    project(data)
    assert rows(data / "audit.db", sql) == [(expected,)]
    assert rows(data / "audit.db", "SELECT position, author, reason FROM corrections") == [
        (3, "A. Auditor", "seen on paper")
    ]


def test_a_corrections_evidence_is_kept(data: Path, tmp_path: Path) -> None:
    """The file that shows it is in the log, and among the files."""
    (tmp_path / "receipt.pdf").write_bytes(b"%PDF-receipt")
    words = ("correct", "bill", "main:501", "--not-paid", *SAID, "--evidence", tmp_path / "receipt.pdf")
    assert run(*words, data=data).exit_code == 0
    project(data)
    assert rows(
        data / "audit.db", "SELECT f.name, f.content FROM corrections c JOIN files f ON f.sha256 = c.evidence"
    ) == [
        ("receipt.pdf", b"%PDF-receipt"),
    ]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("bill", "main~3A501", "--not-paid"), 1, "such as main:501 (~3A"),
        (("bill", "main:501"), 2, "--paid-at or --not-paid"),
        (("bill", "main:501", "--not-paid", "--paid-at", "2026-05-01"), 2, "--paid-at or --not-paid"),
        (("bill", "main:501", "--paid-at", "soon"), 1, "no moment"),
        (("sim", "8970100000000000013", "--status", "active"), 1, "such as main:8970100000000000013"),
        (("same-sim", "main:8970100000000000013", "main:2"), 1, "there is no 'main:2' in sims"),
        (("account", "other", "--state", "good"), 1, "simtrail sources list"),
        (("void", "9"), 1, "no event at position 9"),
    ],
)
def test_a_correction_of_nothing_is_refused(data: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """The log is for ever: what names nothing does not get there, and the message says how it would be named."""
    result = run("correct", *words, *SAID, data=data)
    assert (result.exit_code, told in result.output) == (code, True), result.output
    assert json.loads(run("status", "--json", data=data).stdout)["head"] == 2


def test_a_running_installation_is_rebuilt_without_a_failed_request(
    tmp_path: Path,
    serve: Serve,
    start: Start,
    eventually: Eventually,
) -> None:
    """Posts and queries go on through the swap, and the projector goes on with the new configuration by itself."""
    data = tmp_path / "data"
    serving = serve(data)
    statuses = f"{serving.datasette_url}audit/sims.json?_shape=arrayfirst&_col=status"
    answers = [httpx.post(serving.webhook_url, content=BODY).status_code]
    eventually(lambda: httpx.get(statuses).json() or None)
    (data / "simtrail.toml").write_text('[queues]\nsim_hold = "lock"\n')
    rebuilding = start("rebuild", f"--data={data}", "--yes")
    seen = set()
    while rebuilding.process.poll() is None:
        answers.append(httpx.post(serving.webhook_url, content=BODY.replace("q-1", f"q-{len(answers)}")).status_code)
        looked = httpx.get(statuses)
        answers.append(looked.status_code)
        seen |= {row[0] if isinstance(row, list) else row for row in looked.json()}
    assert rebuilding.process.returncode == 0, rebuilding.err.read_text()
    assert set(answers) == {200}
    eventually(lambda: json.loads(run("status", "--json", data=data).stdout)["lag"] == 0 or None)
    assert rows(data / "audit.db", "SELECT status FROM sims") == [("blocked",)]
    assert serving.running.stop(signal.SIGTERM) == 0


def test_a_killed_rebuild_leaves_the_live_model_whole(learned: Path, start: Start) -> None:
    """SIGKILL leaves at most a file that the next run throws away."""
    (learned / "audit.db.new").write_bytes(b"half made")
    rebuilding = start("rebuild", f"--data={learned}", "--yes")
    os.kill(rebuilding.process.pid, signal.SIGKILL)
    rebuilding.process.wait()
    assert rows(learned / "audit.db", "PRAGMA integrity_check") == [("ok",)]
    assert run("rebuild", "--yes", data=learned).exit_code == 0
    assert list(learned.glob("audit.db.new*")) == []
    assert rows(learned / "audit.db", "SELECT status FROM sims") == [("blocked",)]


def test_ctrl_c_ends_a_rebuild_and_those_that_help_it(tmp_path: Path, start: Start, eventually: Eventually) -> None:
    """Interrupted while two processes read and load for it, a rebuild ends them, removes its file and leaves the live one."""
    data = tmp_path / "data"
    data.mkdir()
    callbacks.append(data / "log.db", 12_000)
    with open_to_read(data / "log.db") as log:
        rebuild.build(log, data / "audit.db", Configuration())
    before = (data / "audit.db").read_bytes()

    running = start("rebuild", "--yes", f"--data={data}")
    helpers = eventually(lambda: running.helpers("projections.reader", "projections.loader"))
    assert running.stop(signal.SIGINT) == 128 + signal.SIGINT
    assert "Interrupted: the live read model is as it was." in running.err.read_text()
    assert running.left(helpers) == set()
    assert (data / "audit.db").read_bytes() == before
    assert not list(data.glob("audit.db.new*"))
