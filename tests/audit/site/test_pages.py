"""The pages: what they say of the month, that it is right, and that nothing sent breaks them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import TYPE_CHECKING

import pytest
from datasette.utils import tilde_encode  # type: ignore[import-untyped]

from audit import folder as folders
from audit import projector
from audit.roles import Role
from audit.site import chart, front, job, sim
from schema import tables
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import httpx

    from audit.folder import DataFolder

    AsRole = Callable[[Role | None], httpx.Client]
    Publish = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def model(month: DataFolder) -> Iterator[sqlite3.Connection]:
    """The month's read model."""
    with closing(sqlite3.connect(month.read_model)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def text_of(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def links_of(page: str, kind: str) -> list[str]:
    return re.findall(rf'href="(/{kind}/[^"?#]+)"', page)


def key(value: object) -> str:
    return str(tilde_encode(str(value)))


def test_the_front_page_tells_the_state(as_role: AsRole, model: sqlite3.Connection) -> None:
    """Cards by effective status, accounts, bills, jobs, days, quarantine, head and lag: each as the tables have it."""
    page = as_role(Role.AUDITOR).get("/").text
    said = text_of(page)

    head = model.execute("SELECT max(position) FROM deliveries").fetchone()[0]
    assert f"Log head {head}" in said
    assert f"Projected {head} up to date" in said
    for status, count in model.execute("SELECT effective_status, count(*) FROM sim_status GROUP BY 1"):
        assert f"{status} {count}" in said
    (quarantine,) = model.execute("SELECT count(*) FROM quarantine").fetchone()
    assert f"Quarantine {quarantine} not understood" in said
    (stalled,) = model.execute("SELECT count(*) FROM jobs_stalled").fetchone()
    assert f"Stalled {stalled}" in said
    (account,) = model.execute("SELECT * FROM accounts")
    assert f"{account['source']} {account['state']} since" in said
    since = (datetime.now(UTC) - timedelta(days=front.DAYS - 1)).date().isoformat()
    (received,) = model.execute("SELECT count(*) FROM deliveries WHERE received_at >= ?", (since,)).fetchone()
    assert f"Deliveries per day {received} in 30 days" in said
    drawn = [int(count) for count in re.findall(r"<title>\d{4}-\d\d-\d\d: (\d+) deliveries", page)]
    assert sum(drawn) == received
    assert len(drawn) == front.DAYS
    expected = model.execute(
        "SELECT bill FROM bills_open WHERE presumed_settled = 0 ORDER BY next_notice_expected_on IS NULL, next_notice_expected_on LIMIT 8"
    ).fetchall()
    assert links_of(page, "bill")[: len(expected)] == [f"/bill/{key(bill)}" for (bill,) in expected]


def test_the_front_page_says_why_projecting_stands_still(
    month: DataFolder,
    publish: Publish,
    browser: Callable[[str], httpx.Client],
    tmp_path: Path,
) -> None:
    """Once it does, with what mends it, and no longer than it does."""
    shutil.copytree(month.path, tmp_path / "data")
    folder = folders.existing(tmp_path / "data")
    folder.users.unlink()
    with publish(folder) as url, browser(url) as client:
        before = text_of(client.get("/").text)
        folder.configuration.write_text('[queues]\nsimhold = "lock"\n')
        during = text_of(client.get("/").text)
    assert "stands still" not in before
    assert "Projecting stands still: the read model was made with another configuration" in during
    assert "`simtrail rebuild` makes it anew from the log." in during


@pytest.mark.parametrize(("other", "active"), [("good", 5), ("restricted", 0)])
def test_the_front_page_counts_cards_under_a_restricted_account_as_blocked(
    month: DataFolder, tmp_path: Path, other: str, active: int
) -> None:
    """Under a restricted account each card counts as blocked but the terminated ones; other accounts' count as they are."""
    path = tmp_path / "audit.db"
    with closing(sqlite3.connect(month.read_model)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        copy.execute(
            "INSERT INTO accounts SELECT 'mainland', ?, state_since, NULL, 0, 0, 0, '', '', position FROM accounts",
            (other,),
        )
        copy.execute("UPDATE accounts SET state = 'restricted' WHERE source = 'main'")
        copy.execute("UPDATE sims SET status = 'terminated' WHERE sim IN (SELECT sim FROM sims LIMIT 3)")
        copy.execute(
            "UPDATE sims SET sim = 'mainland:' || sim, source = 'mainland', status = 'active' WHERE sim IN (SELECT sim FROM sims ORDER BY sim DESC LIMIT 5)"
        )
        copy.row_factory = sqlite3.Row
        counted = front.read(copy, datetime.now(UTC))["statuses"]
        expected = dict(copy.execute("SELECT effective_status, count(*) FROM sim_status GROUP BY 1").fetchall())

    assert dict(counted) == expected  # type: ignore[call-overload]
    assert expected.get("active", 0) == active


def test_a_cards_history_is_listed_whole_across_its_pages(
    as_role: AsRole, model: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event of a card, and every change of its account since it was seen, is on one page of the list, newest first."""
    monkeypatch.setattr(sim, "LISTED", 7)
    (card,) = model.execute("SELECT sim FROM sim_events GROUP BY sim ORDER BY count(*) DESC LIMIT 1").fetchone()
    expected = model.execute("SELECT position, item FROM sim_events WHERE sim = ?", (card,)).fetchall()
    expected += model.execute(
        "SELECT e.position, -1 FROM account_events e JOIN sims s USING (source) WHERE s.sim = ? AND e.at >= s.first_seen_at",
        (card,),
    ).fetchall()

    listed: list[tuple[int, int]] = []
    before = None
    while True:
        told = sim.read(model, card, before, datetime.now(UTC), Role.AUDITOR)
        assert told is not None
        entries: list[dict[str, tuple[int, int]]] = told["entries"]  # type: ignore[assignment]
        assert len(entries) <= 7
        listed += [entry["order"] for entry in entries]
        if told["more"] is None:
            break
        position, item = str(told["more"]).split(",")
        before = (int(position), int(item))

    assert listed == sorted(map(tuple, expected), reverse=True)
    page = as_role(Role.AUDITOR).get(f"/sim/{key(card)}").text
    assert set(links_of(page, "delivery")) == {f"/delivery/{position}" for position, _ in sorted(listed)[-50:]}


def test_a_cards_page_says_what_it_is_and_draws_it(as_role: AsRole, model: sqlite3.Connection) -> None:
    """ICCID as text, effective status, and a band that runs from when it was first seen, in its statuses."""
    row = model.execute("SELECT * FROM sim_status ORDER BY last_seen_at DESC LIMIT 1").fetchone()
    page = as_role(Role.AUDITOR).get(f"/sim/{key(row['sim'])}").text

    assert f'<span class="key">{row["iccid"]}</span> <span class="status {row["effective_status"]}">' in page
    spans = re.findall(r'<rect class="span (\w+)" x="([\d.]+)"[^>]* width="([\d.]+)"', page)
    assert spans[-1][0] == row["effective_status"]
    assert float(spans[0][1]) == chart.LEFT
    assert all(float(width) > 0 for _, _, width in spans)
    places = [float(x) for _, x, _ in spans]
    assert places == sorted(places)
    assert 'role="img" aria-label="Timeline of the SIM card' in page


def test_a_jobs_page_shows_its_curve_and_its_cards(as_role: AsRole, model: sqlite3.Connection) -> None:
    """Each callback is a point and a line; late ones are set aside; each card is a link. A privacy officer reads the name."""
    job = model.execute("SELECT * FROM jobs WHERE late_callbacks > 0 ORDER BY callbacks DESC LIMIT 1").fetchone()
    page = as_role(Role.PRIVACY).get(f"/job/{key(job['job'])}").text

    effects = [
        effect
        for (effect,) in model.execute("SELECT effect FROM job_progress WHERE job = ? ORDER BY position", (job["job"],))
    ]
    assert re.findall(r'class="point( aside)?"', page) == [
        "" if effect == "applied" else " aside" for effect in effects
    ]
    cards = {
        f"/sim/{key(card)}"
        for (card,) in model.execute("SELECT DISTINCT sim FROM sim_events WHERE job = ?", (job["job"],))
    }
    assert set(links_of(page, "sim")) == cards
    (last_name,) = model.execute("SELECT last_name FROM users WHERE user = ?", (job["user"],)).fetchone()
    assert last_name in page
    assert last_name not in as_role(Role.AUDITOR).get(f"/job/{key(job['job'])}").text


def test_a_bills_page_has_its_steps_and_files(as_role: AsRole, model: sqlite3.Connection) -> None:
    """A bill that went the whole way has four steps that arrived, each with its delivery, and its files open from there."""
    bill = model.execute("SELECT * FROM bills WHERE stage = 'unpaid_6' ORDER BY issued_on LIMIT 1").fetchone()
    page = as_role(Role.AUDITOR).get(f"/bill/{key(bill['bill'])}").text

    assert re.findall(r'<li class="(\w+)"><span class="dot"', page) == ["arrived"] * 4
    steps = [
        position
        for (position,) in model.execute(
            "SELECT position FROM bill_notices WHERE bill = ? AND effect = 'applied' ORDER BY position", (bill["bill"],)
        )
    ]
    assert {f"/delivery/{position}" for position in steps} <= set(links_of(page, "delivery"))
    files = [
        sha256
        for (sha256,) in model.execute(
            "SELECT DISTINCT sha256 FROM delivery_files JOIN bill_notices USING (position) WHERE bill = ?",
            (bill["bill"],),
        )
    ]
    assert set(links_of(page, "file")) == {f"/file/{sha256}" for sha256 in files}
    rubles = f"{bill['amount_kopecks'] // 100:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    assert f"{rubles}.{bill['amount_kopecks'] % 100:02}\N{NO-BREAK SPACE}₽" in page


def test_silence_is_never_shown_as_payment(as_role: AsRole, model: sqlite3.Connection) -> None:
    """A bill whose next notice didn't come is told to be presumed settled, by an estimate, and not to be paid."""
    bill = model.execute("SELECT bill FROM bills_open WHERE presumed_settled = 1 LIMIT 1").fetchone()[0]
    said = text_of(as_role(Role.AUDITOR).get(f"/bill/{key(bill)}").text)

    assert "the silence suggests that the bill was settled by" in said
    assert "Paid not known to be" in said
    assert "no notice came" in said


@pytest.mark.parametrize(
    ("kind", "table", "field"), [("sim", "sim_attributes", "comment"), ("bill", "bill_attributes", "manager")]
)
def test_other_fields_are_shown_to_who_may_see_them(
    as_role: AsRole, model: sqlite3.Connection, kind: str, table: str, field: str
) -> None:
    """What has no column stands on the page of a card or bill for a privacy officer, and nowhere for an auditor."""
    subject, attributes = model.execute(f"SELECT {kind}, attributes FROM {table} LIMIT 1").fetchone()
    value = json.loads(attributes)[field]

    assert f"Other fields sent {field} {value}" in text_of(as_role(Role.PRIVACY).get(f"/{kind}/{key(subject)}").text)
    of_auditor = text_of(as_role(Role.AUDITOR).get(f"/{kind}/{key(subject)}").text)
    assert "Other fields" not in of_auditor
    assert value not in of_auditor


def test_a_delivery_is_downloaded_byte_for_byte(as_role: AsRole, month: DataFolder, model: sqlite3.Connection) -> None:
    """The body comes from the log as it was received, never in the sender's own type, under a name of ours."""
    positions = [position for (position,) in model.execute("SELECT min(position) FROM deliveries GROUP BY kind, type")]
    with open_to_read(month.log) as log:
        bodies = {position: log.at(position).delivery.body for position in positions}  # type: ignore[union-attr]
    client = as_role(Role.PRIVACY)
    for position, body in bodies.items():
        answer = client.get(f"/delivery/{position}/body")
        assert answer.content == body
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="simtrail-delivery-{position}.body"'
        page = client.get(f"/delivery/{position}").text
        assert hashlib.sha256(body).hexdigest() in page
        assert f'href="/delivery/{position}/body"' in page


def test_files_open_by_what_they_are(as_role: AsRole, model: sqlite3.Connection) -> None:
    """A PDF opens in the browser, sandboxed, under its hash's name; on request it downloads."""
    sha256, content = model.execute("SELECT sha256, content FROM files LIMIT 1").fetchone()
    client = as_role(Role.AUDITOR)
    answer = client.get(f"/file/{sha256}")

    assert answer.content == content
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == f'inline; filename="simtrail-{sha256[:16]}.pdf"'
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get(f"/file/{sha256}?download").headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    "path",
    [
        "/sim/main~3Anothing",
        "/job/x",
        "/bill/x",
        "/delivery/99999999",
        "/delivery/999999999999999999",
        "/file/" + "0" * 64,
        "/delivery/99999999/body",
        "/delivery/abc",
        "/delivery/" + "9" * 19,
        "/delivery/~D9~A3",
        "/file/abcd",
    ],
)
def test_what_is_not_there_is_not_found(as_role: AsRole, path: str) -> None:
    """A key that nothing has is a 404 that says so, on a page with the way on."""
    answer = as_role(Role.PRIVACY).get(path)
    assert answer.status_code == 404
    assert "there is none, or not yet" in answer.text
    assert '<nav aria-label="Pages">' in answer.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nothing", "There is no page at /nothing."),
        ("/delivery/abc/body", "There is no page at /delivery/abc/body."),
        ("/a/b/c/d/e/f", "There is no page at /a/b/c/d/e/f."),
        ("/%3Cb%3E", "There is no page at /~3Cb~3E."),
        ("/audit/nothing", "Table not found."),
        ("/-/plugins", "This page of Datasette's is not published: it tells of the machine, not of the audit."),
    ],
)
def test_a_path_that_leads_nowhere_is_told_on_a_page(as_role: AsRole, path: str, said: str) -> None:
    """It has the links of all other pages, and for who asks for JSON it is as Datasette has it; without a role there are no links."""
    client = as_role(Role.AUDITOR)
    answer = client.get(path, follow_redirects=True)
    assert (answer.status_code, said in text_of(answer.text)) == (404, True)
    assert '<nav aria-label="Pages">' in answer.text
    asked = client.get("/nothing.json")
    assert (asked.status_code, asked.json()["ok"]) == (404, False)
    assert '<nav aria-label="Pages">' not in as_role(None).get(path).text


@pytest.mark.parametrize(
    ("path", "how", "table"),
    [("/delivery/abc", "its position in the log", "deliveries"), ("/file/abcd", "the SHA-256 of its content", "files")],
)
def test_how_deliveries_and_files_are_named_is_told(as_role: AsRole, path: str, how: str, table: str) -> None:
    """A page of one that is not there says what stands in its address, and leads to the list."""
    page = as_role(Role.AUDITOR).get(path).text
    assert how in page
    assert f'href="/audit/{table}"' in page


@pytest.mark.parametrize(
    ("path", "example", "table"),
    [
        ("/sim/8970100000000000013", "main:8970100000000000013", "sim_status"),
        ("/job/main~3Ax", "main:q-5d41402abc4b", "jobs"),
        ("/bill/other~3A501", "main:501", "bills"),
    ],
)
def test_a_key_that_is_not_there_is_explained(as_role: AsRole, path: str, example: str, table: str) -> None:
    """The page says how keys look, and leads to the search for what was asked, and to the list."""
    client = as_role(Role.AUDITOR)
    page = client.get(path).text
    (search,) = re.findall(r'href="(/audit/search[^"]+)"', page)
    asked = path.rpartition("/")[2].rpartition("~3A")[2]

    assert example in page
    assert "~3A" in page
    assert unescape(search) == f"/audit/search?text={asked}&kind="
    assert client.get(unescape(search)).status_code == 200
    assert f'href="/audit/{table}"' in page


def test_a_repeat_that_is_late_too_is_both(as_role: AsRole, model: sqlite3.Connection) -> None:
    """Its page says that both are true; that of one that is a repeat alone does not speak of late."""
    client = as_role(Role.AUDITOR)
    sql = """
        SELECT min(d.position) FROM deliveries d JOIN job_progress p ON p.position = d.position
        WHERE d.repeat_of IS NOT NULL AND p.effect = ?
    """
    told = []
    for effect in ("late", "repeat"):
        (position,) = model.execute(sql, (effect,)).fetchone()
        text = text_of(client.get(f"/delivery/{position}").text)
        assert "within the redelivery window: it changed nothing." in text
        told.append("It also came behind a newer callback of the job" in text)

    assert told == [True, False]


def test_our_pages_run_nothing_of_their_own(as_role: AsRole, model: sqlite3.Connection) -> None:
    """Our pages have no script or style within them, and a policy that would refuse both; nothing is fetched from elsewhere."""
    client = as_role(Role.PRIVACY)
    (card,) = model.execute("SELECT sim FROM sims LIMIT 1").fetchone()
    for path in (
        "/",
        f"/sim/{key(card)}",
        "/delivery/6",
        "/bill/" + key(model.execute("SELECT bill FROM bills").fetchone()[0]),
    ):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<style|<script(?![^>]* src=)| style=| on\w+=", answer.text)
        sources = re.findall(r'(?:src|<link[^>]* href)="([^"]+)"', answer.text)
        assert sources
        assert all(source.startswith("/") and not source.startswith("//") for source in sources)


def receive(folder: DataFolder, *bodies: bytes, agent: str = "platform") -> None:
    """Record bodies, a second apart, the last one now; and project them."""
    now = datetime.now(UTC)
    events = []
    for number, body in enumerate(bodies):
        at = now - timedelta(seconds=len(bodies) - 1 - number)
        delivery = Delivery(instant(at), "main", "127.0.0.1", {"user-agent": agent}, body)
        events.append(WebhookReceived(uuid7(at, os.urandom), 1, delivery))
    with open_to_append(folder.log) as log:
        log.append(events)
    projector.run(folder, once=True)


def callback(done: int | None, of: int | None, *, qid: str = "q", queue: str = "sim_lock") -> bytes:
    """A job's callback that names one card; how far the job is may be untold."""
    progress = {"count": of, "process": done} if done is not None else {}
    card = {"iccid": "8970100000000000013"}
    return json.dumps({"qid": qid, "queue": queue, "items": [card], "status": progress}).encode()


def test_a_job_credits_a_cards_status_to_the_delivery_that_set_it(tmp_path: Path) -> None:
    """A late callback is not what locked the card; a job that left its status alone did not set it either."""
    folder = folders.create(tmp_path / "data")
    receive(folder, callback(1, 2), callback(2, 2), callback(1, 2), callback(1, 1, qid="b", queue="balance"))
    with closing(sqlite3.connect(folder.read_model)) as connection:
        connection.row_factory = sqlite3.Row
        effects = [effect for (effect,) in connection.execute("SELECT effect FROM sim_events ORDER BY position")]
        told = [job.read(connection, key, datetime.now(UTC), Role.AUDITOR) for key in ("main:q", "main:b")]

    assert effects == ["applied", "applied", "late", "applied"]
    cards: list[sqlite3.Row] = [row for each in told if each for row in each["cards"]]  # type: ignore[attr-defined]
    assert [(row["position"], row["set_status"], row["status_after"]) for row in cards] == [
        (2, 1, "blocked"),
        (4, 0, "blocked"),
    ]


def test_what_a_callback_does_not_tell_is_not_drawn(
    publish: Publish, browser: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    """A job whose progress is unknown says so, and prints no None; one that tells it now and then is drawn as far as it does."""
    folder = folders.create(tmp_path / "data")
    receive(folder, callback(None, None), callback(None, None, qid="r"), callback(3, 4, qid="r"), b"")
    with publish(folder) as url, browser(url) as client:
        untold, told, empty = (client.get(path).text for path in ("/job/main~3Aq", "/job/main~3Ar", "/delivery/4"))

    assert "No callback told how far the job is." in untold
    assert re.findall(r'class="point[^>]*><title>[^<]*: ([^<]*)</title>', told) == ["3 of 4, applied"]
    assert "None" not in untold + told
    assert "The body was empty: 0 bytes." in empty


def test_events_seconds_apart_can_be_told_apart_on_a_timeline(tmp_path: Path) -> None:
    """Each mark says its second and its delivery, each stretch its seconds, and a short axis has seconds too."""
    folder = folders.create(tmp_path / "data")
    receive(
        folder, *(callback(1, 1, qid=f"q-{n}", queue=queue) for n, queue in enumerate(["sim_lock", "sim_unlock"] * 4))
    )
    with closing(sqlite3.connect(folder.read_model)) as connection:
        connection.row_factory = sqlite3.Row
        told = sim.read(connection, "main:8970100000000000013", None, datetime.now(UTC), Role.AUDITOR)
    assert told is not None
    drawing = str(told["drawing"])
    titles = re.findall(r"<title>([^<]*)</title>", drawing)

    assert len(titles) == 16
    assert len(set(titles)) == 16
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d", label) for label in re.findall(r'class="tick"[^>]*>([^<]*)<', drawing))


HOSTILE = "\"><script>alert(1)</script>'{{7*7}}\u202e%0d%0aSet-Cookie: a=b /../.."


def test_nothing_that_is_sent_breaks_a_page(
    publish: Publish, browser: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    """Markup, quotes, paths and line breaks in every field of cards, jobs, bills and files are shown as text."""
    folder = folders.create(tmp_path / "data")
    bodies: list[object] = [
        {"qid": HOSTILE, "queue": HOSTILE, "added": 1, "handler": HOSTILE, "items": [{"id": HOSTILE, "tariff": HOSTILE, "groups": [HOSTILE], HOSTILE: [HOSTILE, 10**400]}],
         "user": {"id": HOSTILE, "first_name": HOSTILE, "last_name": HOSTILE, "company_id": HOSTILE}, "status": {"count": 1, "process": 1, "percentage": 100}},
        {"type": "generate_bill", "items": [{"id": HOSTILE, "number": HOSTILE, "amount": HOSTILE, "period": HOSTILE, HOSTILE: HOSTILE}],
         "files": [{"type": "base64", "format": HOSTILE, "name": HOSTILE, "body": "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="}]},
        {"type": HOSTILE, "items": HOSTILE},
    ]  # fmt: skip
    receive(folder, *(json.dumps(body).encode() for body in bodies), agent=HOSTILE)
    with closing(sqlite3.connect(folder.read_model)) as connection:
        (card,), (job,), (bill,), (file,) = (
            connection.execute(f"SELECT {column} FROM {table}").fetchone()
            for column, table in (("sim", "sims"), ("job", "jobs"), ("bill", "bills"), ("sha256", "files"))
        )
    paths = [
        "/",
        f"/sim/{key(card)}",
        f"/job/{key(job)}",
        f"/bill/{key(bill)}",
        "/delivery/1",
        "/delivery/2",
        "/delivery/3",
    ]
    paths += [
        f"/audit/{table}"
        for table in (*tables.PERSONAL, "sims", "jobs", "bills", "files", "deliveries", "sim_events", "delivery_files")
    ]
    with publish(folder) as url, browser(url) as client:
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "<script>alert" not in answer.text, path
            assert "set-cookie" not in answer.headers, path
        assert "&lt;script&gt;alert(1)" in client.get(f"/job/{key(job)}").text
        kept = client.get(f"/file/{file}")
        assert kept.headers["content-type"] == "application/octet-stream"
        assert kept.headers["content-disposition"] == f'attachment; filename="simtrail-{file[:16]}.bin"'


def test_an_empty_installation_has_a_front_page(
    publish: Publish, browser: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    """Before anything was received the front page says so."""
    folder = folders.create(tmp_path / "data")
    with open_to_append(folder.log):
        pass
    projector.run(folder, once=True)
    with publish(folder) as url, browser(url) as client:
        said = text_of(client.get("/").text)

    for words in ("Log head 0", "nothing yet", "No SIM card has been named yet", "Nothing has been received yet"):
        assert words in said


def test_the_front_page_counts_by_day_what_was_not_understood(tmp_path: Path) -> None:
    """Also where the clock was put back meanwhile; what is older than the days shown is not counted."""
    now = datetime.now(UTC)
    folder = folders.create(tmp_path / "data")
    ages = (40, 29, 3, 35, 3, 0)  # Days: the positions are not in the order of the times.
    events = [
        WebhookReceived(
            uuid7(now, os.urandom), 1, Delivery(instant(now - timedelta(days=age)), "main", "", {}, b"?%d" % n)
        )
        for n, age in enumerate(ages)
    ]
    with open_to_append(folder.log) as log:
        log.append(events)
    projector.run(folder, once=True)
    with closing(sqlite3.connect(folder.read_model)) as connection:
        connection.row_factory = sqlite3.Row
        days: dict[str, object] = front.read(connection, now)["days"]  # type: ignore[assignment]

    assert (days["count"], days["not_read"]) == (4, 4)
    drawn = re.findall(r"<title>([-\d]+): (\d+) deliveries, (\d+) not understood", str(days["drawing"]))
    assert drawn == [
        ((now - timedelta(days=age)).date().isoformat(), str(n), str(n)) for age, n in ((29, 1), (3, 2), (0, 1))
    ]
