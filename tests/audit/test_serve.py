"""`simtrail serve`, and the processes that it stands for, as processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from audit import folder as folders
from audit.command import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Eventually, Serve, Start

SERVICES = {"receiver", "sealer", "projector", "Datasette"}

BODY = b'{"type": "package_empty", "items": [{"iccid": "8970100000000000054"}]}'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


def command(*arguments: str, data: Path) -> str:
    result = CliRunner().invoke(main, [*arguments, f"--data={data}"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_first_start_serves_until_it_is_stopped(data: Path, serve: Serve) -> None:
    """The URLs that are shown answer at once; SIGTERM stops all four, and what was received is projected by then."""
    serving = serve(data)
    children = serving.running.children()
    answers = [httpx.post(serving.webhook_url, content=BODY).status_code for _ in range(20)]
    published = httpx.get(serving.datasette_url)

    code = serving.running.stop(signal.SIGTERM)

    assert code == 0, serving.running.err.read_text()
    assert answers == [200] * 20
    assert published.status_code == 200
    assert children.keys() == SERVICES
    assert serving.running.left(children.values()) == set()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "sources.json").stat().st_mode) == 0o600
    told = json.loads(command("status", "--json", data=data))
    assert (told["head"], told["lag"], told["sources"]) == (20, 0, ["main"])
    assert serving.webhook_url.rsplit("/", 1)[1] not in serving.running.err.read_text()
    assert "Traceback" not in serving.running.err.read_text()


def test_a_later_start_goes_on_where_the_first_stopped(data: Path, serve: Serve, eventually: Eventually) -> None:
    """A folder that was served before is served again; a source rotated meanwhile lets in; Ctrl-C stops all four."""
    command("sources", "add", "main", data=data)
    serving = serve(data)
    children = serving.running.children()
    front = serving.running.said(r"^Receiving at (\S+);")
    url = command("sources", "rotate", "main", f"--base-url={front}", data=data).strip()
    answer = eventually(lambda: httpx.post(url, content=BODY))

    code = serving.running.stop(signal.SIGINT)

    assert code == 0, serving.running.err.read_text()
    assert serving.webhook_url == ""
    assert answer.status_code == 200
    assert serving.running.left(children.values()) == set()
    assert "Traceback" not in serving.running.err.read_text()


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_serve_ends_with_any_of_its_processes(data: Path, serve: Serve, name: str) -> None:
    """Where one of the four is killed, serve names it, exits with 1, and leaves none of the others."""
    serving = serve(data)
    children = serving.running.children()

    os.kill(children[name], signal.SIGKILL)

    assert serving.running.process.wait(60) == 1
    assert f"Error: the {name} was ended by signal 9 (Killed) by itself" in serving.running.err.read_text()
    assert serving.running.left(children.values()) == set()


def test_nothing_outlives_serve(data: Path, serve: Serve, eventually: Eventually) -> None:
    """Where serve itself is killed, its processes end too, and the folder can be served again."""
    serving = serve(data)
    children = serving.running.children()
    assert children.keys() == SERVICES

    serving.running.stop(signal.SIGKILL)

    assert eventually(lambda: not serving.running.left(children.values()))
    for role in folders.ROLES:
        folders.require_free(folders.existing(data), role)


def test_the_receiver_runs_alone(data: Path, start: Start, eventually: Eventually) -> None:
    """`receive` makes the folder, tells where it answers, and ends on SIGTERM with 0."""
    running = start("receive", f"--data={data}", "--port=0")
    url = eventually(lambda: running.said(r"^Receiving at (\S+);"))

    assert httpx.get(f"{url}/livez").status_code == 200
    assert running.stop(signal.SIGTERM) == 0
    assert (data / "log.db").exists()


def test_the_projector_runs_alone(data: Path, start: Start, eventually: Eventually, tmp_path: Path) -> None:
    """`project` follows a log that comes only later, and ends on Ctrl-C with 0."""
    command("sources", "add", "main", data=data)
    running = start("project", f"--data={data}")
    eventually((data / "projector.lock").exists)
    (tmp_path / "a.json").write_bytes(BODY)
    command("append", str(tmp_path / "a.json"), data=data)

    assert eventually(lambda: json.loads(command("status", "--json", data=data))["projected"]) == 1
    assert running.stop(signal.SIGINT) == 0
    assert running.said(r"(^The read model is at position 1\.$)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_datasette_runs_alone(
    data: Path,
    start: Start,
    eventually: Eventually,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """`publish` shows the read model while nothing else runs, and ends on Ctrl-C or SIGTERM with 0."""
    command("sources", "add", "main", data=data)
    (tmp_path / "a.json").write_bytes(BODY)
    command("append", str(tmp_path / "a.json"), data=data)
    command("project", "--once", data=data)
    running = start("publish", f"--data={data}", "--port=0")
    url = eventually(lambda: running.said(r"^Publishing at (\S+);"))
    eventually(lambda: running.said(r"(Uvicorn running)"))

    assert httpx.get(f"{url}audit/deliveries.json", params={"_shape": "array"}).json()[0]["position"] == 1
    assert running.stop(number) == 0
    assert "Traceback" not in running.err.read_text()


def test_projecting_once_shows_its_progress_on_a_terminal(data: Path, start: Start, tmp_path: Path) -> None:
    """A terminal on standard error gets a bar that ends at the whole."""
    command("sources", "add", "main", data=data)
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" * 10)
    command("append", str(tmp_path / "a.jsonl"), data=data)
    terminal, its_end = pty.openpty()
    running = start("project", "--once", f"--data={data}", stderr=its_end)

    assert running.process.wait(60) == 0
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "Projecting" in shown
    assert "100%" in shown
