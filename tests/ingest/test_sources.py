from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import ingest.sources
from ingest.limits import SECRETS
from ingest.sources import Sources, add, listed, remove, rotate
from schema.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Clock

    Change = Callable[..., str]


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sources.json"


@pytest.fixture
def new(path: Path, clock: Clock, entropy: Callable[[int], bytes]) -> Change:
    """Add a source, or make another change that gives a secret, with this test's time and randomness."""

    def new(name: str, change: Callable[..., str] = add, **how: bool) -> str:
        return change(path, name, now=clock(), entropy=entropy, **how)

    return new


def test_a_secret_has_128_bits_or_more_and_is_kept_as_its_hash_only(path: Path, new: Change):
    """The plain secret leaves once, as the return value; the file has its SHA-256."""
    secret = new("main")
    assert len(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))) * 8 >= 128
    content = path.read_bytes()
    assert secret.encode() not in content
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in content


def test_only_the_owner_may_read_the_file_and_a_folder_made_for_it(path: Path, new: Change):
    """Mode 0600, whatever the umask; a data folder that add makes has 0700."""
    umask = os.umask(0)
    try:
        new("main")
        new("main", rotate)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name",
    ["", "-main", "Main", "ма", "a/b", "..", "a b", "a\n", "a\0", "a" * 64, "a_b", "a%2Fb"],
)
def test_a_name_that_would_need_quoting_is_refused(path: Path, new: Change, name: str):
    """A source's name is a slug, so it is safe in every URL, key and page."""
    with pytest.raises(SourceError, match="can't name a source"):
        new(name)
    assert listed(path) == ()


def test_a_name_is_taken_once(path: Path, new: Change):
    """Adding a source again changes nothing and says what to do instead."""
    new("main")
    before = path.read_bytes()
    with pytest.raises(SourceError, match="rotate"):
        new("main")
    assert path.read_bytes() == before


def test_sources_are_listed_in_the_order_added(path: Path, new: Change):
    """The list is none without a file, then each source with its times and secrets' ids."""
    assert listed(path) == ()
    secret = new("second")
    new("first")
    assert [source.name for source in listed(path)] == ["second", "first"]
    assert listed(path)[0].added_at == "2026-05-01T00:00:00.001000Z"
    assert listed(path)[0].secrets[0].id == hashlib.sha256(secret.encode()).hexdigest()[:8]


def test_a_rotation_lets_old_and_new_in_until_the_old_is_removed(path: Path, new: Change):
    """Between the change here and the change at the platform, nothing is refused."""
    old = new("main")
    latest = new("main", rotate)
    sources = Sources(path)
    assert sources.authenticate("main", old)
    assert sources.authenticate("main", latest)
    remove(path, "main", secret_id=listed(path)[0].secrets[0].id)
    assert not sources.authenticate("main", old)
    assert sources.authenticate("main", latest)


def test_a_rotation_that_drops_the_old_leaves_the_new_secret_alone(path: Path, new: Change):
    """After a leak, one command ends every earlier secret."""
    earlier = [new("main"), new("main", rotate)]
    latest = new("main", rotate, drop_old=True)
    sources = Sources(path)
    assert [sources.authenticate("main", secret) for secret in [*earlier, latest]] == [False, False, True]


def test_a_source_has_a_bounded_number_of_secrets(new: Change):
    """Each further secret is a comparison in every request, so there is a limit, and a way past it."""
    new("main")
    for _ in range(SECRETS - 1):
        new("main", rotate)
    with pytest.raises(SourceError, match="remove old ones"):
        new("main", rotate)
    new("main", rotate, drop_old=True)


def test_a_removed_source_is_let_in_no_more(path: Path, new: Change):
    """Removal counts from the next request, and touches no other source."""
    gone, kept = new("gone"), new("kept")
    sources = Sources(path)
    remove(path, "gone")
    assert not sources.authenticate("gone", gone)
    assert sources.authenticate("kept", kept)


def test_what_is_not_there_can_not_be_removed_or_rotated(path: Path, new: Change):
    """An unknown source or secret is an error that names those there are."""
    new("main")
    with pytest.raises(SourceError, match="the sources are main"):
        remove(path, "other")
    with pytest.raises(SourceError, match="the sources are main"):
        new("other", rotate)
    with pytest.raises(SourceError, match=f"its secrets are {listed(path)[0].secrets[0].id}"):
        remove(path, "main", secret_id="00000000")  # noqa: S106 - an id


def test_the_last_secret_of_a_source_stays(path: Path, new: Change):
    """A source without a secret could never deliver again: removing it has to be said."""
    secret = new("main")
    with pytest.raises(SourceError, match="last secret"):
        remove(path, "main", secret_id=listed(path)[0].secrets[0].id)
    assert Sources(path).authenticate("main", secret)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"\xff", "damaged"),
        (b'{"v": 1}', "damaged"),
        (b'{"v": 1, "sources": [{"name": "A", "added_at": "", "secrets": []}]}', "damaged"),
        (b'{"v": 1, "sources": [], "more": 1}', "damaged"),
        (b'{"v": 2, "sources": []}', "version 2"),
    ],
)
def test_a_file_that_simtrail_did_not_write_is_refused(path: Path, new: Change, content: bytes, reason: str):
    """Neither the receiver's start nor a command works on a file it does not understand."""
    new("main")
    path.write_bytes(content)
    for action in (lambda: Sources(path), lambda: listed(path), lambda: new("other")):
        with pytest.raises(ConfigurationError, match=reason):
            action()
    assert path.read_bytes() == content


def test_a_file_that_can_not_be_written_stays_as_it_was(path: Path, new: Change, monkeypatch: pytest.MonkeyPatch):
    """A full disk while a source is added costs the addition, not the file."""
    new("main")
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise NO_SPACE

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        new("other")
    assert path.read_bytes() == before


def test_the_new_file_is_on_disk_before_it_replaces_the_old(new: Change, monkeypatch: pytest.MonkeyPatch):
    """Write, fsync, rename, fsync of the folder: in this order a crash leaves one whole file."""
    new("main")
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    new("other")
    assert steps == ["fsync file", "rename", "fsync folder"]


def test_commands_at_the_same_time_lose_no_change(path: Path, new: Change):
    """Whoever changes the file waits for whoever is changing it."""
    names = [f"source-{n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        secrets = dict(zip(names, pool.map(new, names), strict=True))
    sources = Sources(path)
    assert all(sources.authenticate(name, secret) for name, secret in secrets.items())


def test_a_running_receiver_takes_up_a_new_source_at_once(path: Path, new: Change):
    """A source added while the receiver runs may deliver without a restart."""
    with capture_logs() as lines:
        sources = Sources(path)
        assert not sources.authenticate("main", "guess")
        assert sources.authenticate("main", new("main"))
    assert [line["event"] for line in lines] == ["no source may deliver yet", "sources changed"]


@pytest.mark.parametrize("broken", [None, b"{", b'{"v": 9, "sources": []}'])
def test_a_broken_file_changes_nothing_for_a_running_receiver(path: Path, new: Change, broken: bytes | None):
    """The last good sources stay, the receiver says so once, and takes up the mended file."""
    secret = new("main")
    good = path.read_bytes()
    sources = Sources(path)
    with capture_logs() as lines:
        if broken is None:
            path.unlink()
        else:
            path.write_bytes(broken)
        assert sources.authenticate("main", secret)
        assert not sources.authenticate("main", "guess")
        assert [line["log_level"] for line in lines] == ["error"]
        path.write_bytes(good)
        second = new("main", rotate)
        assert sources.authenticate("main", second)


def test_an_unknown_source_costs_as_many_comparisons_as_a_known_one(
    path: Path, new: Change, monkeypatch: pytest.MonkeyPatch
):
    """Time tells neither whether a source is there nor how many secrets it has."""
    right = new("two")
    new("two", rotate)
    new("one")
    sources = Sources(path)
    compare, count = hmac.compare_digest, 0

    def counted(given: bytes, kept: bytes) -> bool:
        nonlocal count
        count += 1
        return compare(given, kept)

    monkeypatch.setattr(ingest.sources, "compare_digest", counted)
    counts = []
    for name, secret in [("two", right), ("two", "guess"), ("one", "guess"), ("none", "guess"), ("none", "")]:
        count = 0
        sources.authenticate(name, secret)
        counts.append(count)
    assert counts == [2, 2, 2, 2, 2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(name=st.one_of(st.just("main"), st.text()), guess=st.text(alphabet=st.characters(codec=None)))
def test_nothing_but_the_secret_lets_anyone_in(tmp_path: Path, name: str, guess: str):
    """Any text at all, even half a surrogate pair, is compared and refused."""
    path = tmp_path / "sources.json"
    if not path.exists():
        add(path, "main", now=datetime(2026, 5, 1, tzinfo=UTC), entropy=os.urandom)
    assert not Sources(path).authenticate(name, guess)
