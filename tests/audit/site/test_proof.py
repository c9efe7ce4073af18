"""What the pages say of the proofs."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from html import unescape
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from audit import note as notes
from audit import proof
from audit.command import main
from audit.folder import DataFolder
from audit.roles import Role
from audit.seal_state import SealState, seal_state
from tests.audit.site.test_pages import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import httpx

    AsRole = Callable[[Role | None], httpx.Client]


@pytest.fixture
def seals(month: DataFolder) -> SealState:
    state = seal_state(month.seals)
    assert state is not None
    return state


def test_the_front_page_says_how_far_the_log_is_signed(as_role: AsRole, seals: SealState) -> None:
    """And by whom cosigned."""
    assert f"Signed {seals.position} no witness has cosigned" in text_of(as_role(Role.AUDITOR).get("/").text)


def test_a_delivery_has_its_receipt(as_role: AsRole, seals: SealState) -> None:
    """Linked from its page, with the log's key; it proves that delivery."""
    client = as_role(Role.AUDITOR)
    page = client.get("/delivery/3").text
    answer = client.get("/delivery/3/receipt")

    assert 'href="/delivery/3/receipt"' in page
    assert seals.key in text_of(page)
    assert answer.headers["content-disposition"] == 'attachment; filename="3.tlog-proof"'
    leaf, anchor, _ = proof.parse(answer.text).verified([notes.parse_key(seals.key)])
    assert (leaf.position, anchor.size) == (3, seals.size)
    assert leaf.body_sha256.hex() in page
    missing = client.get("/delivery/99999999/receipt")
    assert (missing.status_code, "no event was sealed there" in missing.text) == (404, True)


def test_a_receipt_is_checked_with_what_the_page_offers(as_role: AsRole, seals: SealState, tmp_path: Path) -> None:
    """The receipt and the program, both from links of the page, and Python with nothing else: it is proven."""
    client = as_role(Role.AUDITOR)
    page = client.get("/delivery/3").text
    assert 'href="/verify.py" download' in page
    answer = client.get("/verify.py")
    (tmp_path / "verify.py").write_bytes(answer.content)
    (tmp_path / "3.tlog-proof").write_bytes(client.get("/delivery/3/receipt").content)

    (line,) = re.findall(r'<pre [^>]*aria-label="Command">([^<]*)</pre>', page)
    python, *words = shlex.split(unescape(line))
    assert (python, words) == ("python3", ["verify.py", "3.tlog-proof", "--key", seals.key])
    checked = subprocess.run(
        [sys.executable, "-I", "-S", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "Position 3 is in the log" in checked.stdout
    assert answer.headers["content-disposition"] == 'attachment; filename="verify.py"'


def test_a_log_that_was_changed_shows_on_the_front_page(
    month: DataFolder,
    publish: Callable[..., AbstractContextManager[str]],
    browser: Callable[[str], httpx.Client],
    tmp_path: Path,
) -> None:
    """What the sealer refused to sign, since when, and why."""
    shutil.copytree(month.path, tmp_path / "data")
    folder = DataFolder(tmp_path / "data")
    folder.users.unlink()
    with closing(sqlite3.connect(folder.log_file, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER stored_events_no_delete")
        connection.execute("DELETE FROM stored_events WHERE rowid > 5")
    assert CliRunner().invoke(main, ["seal", "--once", f"--data={folder.path}"]).exit_code == 1

    with publish(folder) as url, browser(url) as client:
        said = text_of(client.get("/").text)
    assert "sealer, since" in said
    assert "the log ends at position 5, but was sealed up to" in said
    assert "not what was sealed: see above" in said
