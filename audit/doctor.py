"""The doctor: looks an installation over, changes nothing, and says what to do about what it finds."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec
from cryptography import x509

from audit import keys
from audit import sealing as how_to_seal
from audit.folder import ROLES, is_held
from audit.seal_state import seal_state
from audit.seals import SEALER
from audit.services import Address, connection_to
from ingest import sources, tls
from projections import read_model
from schema import configuration
from schema.errors import ConfigurationError, LogError, LogNotThere, SealError, SimtrailError
from schema.event import instant
from schema.log import PAGE_EVENTS, open_to_read
from schema.log_place import Server
from schema.log_sqlite import APPEND_ONLY
from schema.tables import MODEL_VERSION, PROJECTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from audit.folder import DataFolder
    from audit.seal_state import SealState
    from schema.log import Log

State: TypeAlias = Literal["ok", "warning", "failed"]

EVENTS = 10_000
"""How many of the last events are read, unless all are asked for: under a second's work."""

CHECKED_BYTES = 256 * 1024 * 1024
"""A log up to this size is checked page by page without being asked: a few seconds' work."""

SQLITE_AT_LEAST = (3, 37, 0)
"""STRICT tables, which the read model is made of."""

WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
"""The first and the last SQLite that can lose a reset of the write-ahead log between two checkpointing connections."""

FREE_WARNING = 0.1
"""The share of a disk that should be free; below it, there is time to act."""

FREE_FAILED_BYTES = 256 * 1024 * 1024
"""Less than this is a matter of minutes under load."""

CLOCK_STEP = timedelta(seconds=60)
"""How far back the time of receipt may go from one event to the next: senders on several
connections, and a clock that is being kept right, make steps of a second at most."""

ANSWER_S = 5

MENDED = "see docs/faults.md, and the receiver's own log: some faults pass by themselves, after others it must be started again"

RENEW_DAYS = 14
"""A certificate that ends sooner should have been renewed: of ninety days a month before, as the usual clients do it."""

RESTORE = "stop simtrail, keep a copy of the data folder as it is, and restore the last backup"

UNTIL_FULL = "; --full reads all of it"


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it; None where there is nothing to do."""

    check: str
    state: State
    told: str
    remedy: str | None = None


def examine(
    folder: DataFolder, url: str, now: datetime, *, full: bool, tls: tuple[Path, Path | None] | None = None
) -> Iterator[Finding]:
    """Each check's finding, as it is made.

    ``url`` is where the receiver should answer, ``tls`` its certificate and key if it speaks TLS itself.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "sqlite": partial(sqlite, sqlite3.sqlite_version_info),
        "modes": partial(modes, folder),
        "disk": partial(disk, folder.path, shutil.disk_usage(folder.path)),
        "configuration": partial(settings, folder),
        "sources": partial(senders, folder),
        "log": partial(kept_log, folder, full=full),
        "events": partial(events, folder, full=full),
        "clock": partial(clock, folder, now, full=full),
        "seals": partial(sealing, folder),
        "read model": partial(tables, folder, full=full),
        "processes": partial(processes, folder, url),
    }
    if tls is not None:
        checks["certificate"] = partial(certificate, *tls, now)
    for name, check in checks.items():
        try:
            yield check()
        except LogNotThere:
            yield Finding(name, "ok", "nothing was received yet")
        except (SimtrailError, sqlite3.Error, OSError) as error:
            yield Finding(name, "failed", f"can't be checked: {error}", "see to that first, then ask again")


def sqlite(version: tuple[int, ...]) -> Finding:
    """Whether this SQLite can do what is asked of it."""
    shown = ".".join(map(str, version))
    if version < SQLITE_AT_LEAST:
        least = ".".join(map(str, SQLITE_AT_LEAST))
        return Finding("sqlite", "failed", f"SQLite {shown}", f"use a Python whose SQLite is {least} or newer")
    first, last = WAL_RESET_BUG
    if first <= version <= last:
        told = (
            f"SQLite {shown}; it may have the WAL-reset bug (3.7.0 to 3.51.2), which needs two connections that "
            "checkpoint one file: of the log, only the receiver's appender does"
        )
        return Finding("sqlite", "ok", told, "nothing; but write to log.db with no other program")
    return Finding("sqlite", "ok", f"SQLite {shown}")


def modes(folder: DataFolder) -> Finding:
    """Whether only the folder's owner can read or write what is in it."""
    owner, mode = folder.path.stat().st_uid, folder.path.stat().st_mode
    strangers = [path.name for path in sorted(folder.path.iterdir()) if path.lstat().st_uid != owner]
    if strangers:
        told = f"{', '.join(strangers)}: not of the folder's owner, so that simtrail may not be able to write there"
        return Finding("modes", "failed", told, f"chown --recursive --reference={folder.path} {folder.path}")
    if mode & 0o022:
        return Finding("modes", "failed", "others can write in the data folder", f"chmod 700 {folder.path}")
    for secret in (folder.sources, folder.users, folder.cookie_secret):
        with suppress(FileNotFoundError):
            if secret.stat().st_mode & 0o077:
                return Finding("modes", "failed", f"others can read {secret.name}", f"chmod 600 {secret}")
    if mode & 0o055:
        told = "others can look into the data folder, which holds personal data"
        return Finding("modes", "warning", told, f"chmod 700 {folder.path}")
    return Finding("modes", "ok", "the data folder is its owner's alone")


def disk(path: Path, usage: shutil._ntuple_diskusage) -> Finding:
    """Whether there is room to go on."""
    used = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    told = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free; the data folder has {used / 1e6:.1f} MB"
    if usage.free < FREE_FAILED_BYTES:
        return Finding("disk", "failed", told, "make room now: on a full disk deliveries are refused with 503")
    model = path / "audit.db"
    needed = model.stat().st_size if model.exists() else 0
    if usage.free < needed or usage.free < FREE_WARNING * usage.total:
        return Finding(
            "disk", "warning", told, "make room; a read model that is made anew needs its own size once more"
        )
    return Finding("disk", "ok", told)


def settings(folder: DataFolder) -> Finding:
    """Whether the configuration can be used."""
    digest = configuration.digest(configuration.load(folder.configuration))
    name = "simtrail.toml" if folder.configuration.exists() else "the defaults"
    return Finding("configuration", "ok", f"{name}, digest {digest[:12]}")


def senders(folder: DataFolder) -> Finding:
    """Whether anyone may deliver."""
    known = sources.listed(folder.sources)
    if not known:
        return Finding("sources", "warning", "no source may deliver", "simtrail sources add NAME")
    return Finding("sources", "ok", ", ".join(source.name for source in known))


def kept_log(folder: DataFolder, *, full: bool) -> Finding:
    """Whether the log is whole and append-only, wherever it is kept."""
    if isinstance(folder.log, Server):
        from audit.doctor_server import log_on_server  # noqa: PLC0415 - most have no server

        return log_on_server(folder.log, full=full)
    return log_file(folder.log, full=full)


def log_file(path: Path, *, full: bool) -> Finding:
    """Whether the log's file is whole, append-only, and without holes."""
    with open_to_read(path):
        pass
    with closing(_connect(path)) as connection:
        connection.execute("BEGIN")
        made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")}
        if lacking := len([each for each in APPEND_ONLY if _words(each) not in map(_words, made)]):
            told = f"{lacking} of the {len(APPEND_ONLY)} triggers that keep the log append-only are not there"
            remedy = (
                "find out who removed them; compare the log with a backup; the receiver makes them again at its start"
            )
            return Finding("log", "failed", told, remedy)
        count, first, last = connection.execute(
            "SELECT count(*), coalesce(min(rowid), 1), coalesce(max(rowid), 0) FROM stored_events"
        ).fetchone()
        if first != 1 or last != count:
            told = f"positions {first} to {last} have {last - count} holes: events were removed"
            return Finding("log", "failed", told, RESTORE)
        size = path.stat().st_size
        checked = full or size <= CHECKED_BYTES
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if checked else "ok"
    if verdict != "ok":
        return Finding("log", "failed", f"SQLite finds the file damaged: {verdict}", RESTORE)
    told = f"{count} events without holes in {size / 1e6:.1f} MB; append-only"
    return Finding("log", "ok", told + ("; every page checked" if checked else f"; pages not checked{UNTIL_FULL}"))


def events(folder: DataFolder, *, full: bool) -> Finding:
    """Whether events can be read, and are those that the read model says they are."""
    read, compared = 0, 0
    with open_to_read(folder.log) as log:
        head = log.head()
        digests = _digests(folder.read_model)
        position = 0 if full else max(0, head - EVENTS)
        while position < head:
            try:
                page = log.after(position, max_events=PAGE_EVENTS)
            except LogError:
                return _unreadable(log, position)
            known = digests(position, page[-1].position)
            for event in page:
                digest = known.get(event.position)
                if digest not in {None, hashlib.sha256(event.delivery.body).hexdigest()}:
                    told = f"the event at position {event.position} is not the one that the read model was made from"
                    return Finding(
                        "events",
                        "failed",
                        told,
                        f"compare it with a backup's; if the log is right: {read_model.REMEDY}",
                    )
                compared += digest is not None
            read, position = read + len(page), page[-1].position
    which = f"the last {read} of {head} events" if read < head else f"all {head} events"
    told = f"{which} can be read, {compared} have the hash that the read model has"
    return Finding("events", "ok", told + (UNTIL_FULL if read < head else ""))


def clock(folder: DataFolder, now: datetime, *, full: bool) -> Finding:
    """Whether this machine's time goes forward, as far as the log can tell."""
    with open_to_read(folder.log) as log:
        head = log.head()
        position = 0 if full else max(0, head - EVENTS)
        before, back = "", None
        while page := log.after(position):
            for event in page:
                at = event.delivery.received_at
                if at < before and datetime.fromisoformat(before) - datetime.fromisoformat(at) > CLOCK_STEP:
                    back = (event.position, before, at)
                before, position = at, event.position
    if before > instant(now):
        told = (
            f"the last event came at {before}, which is after now, {instant(now)}: the clock was wrong then, or is now"
        )
        return Finding(
            "clock", "failed", told, "see that the machine's time is kept, as by systemd-timesyncd or chrony"
        )
    if back is not None:
        told = f"the clock went back at position {back[0]}, from {back[1]} to {back[2]}"
        return Finding(
            "clock", "warning", told, "order by position there, not by time; see that the machine's time is kept"
        )
    return Finding("clock", "ok", f"it is {instant(now)}, after every event looked at")


def tables(folder: DataFolder, *, full: bool) -> Finding:  # noqa: PLR0911 - a finding each
    """Whether the read model stands for this log, read with this configuration."""
    if not folder.read_model.exists():
        return Finding("read model", "warning", "there is none yet", "simtrail serve or simtrail project makes it")
    with closing(_connect(folder.read_model)) as connection:
        connection.execute("BEGIN")
        position, version, digest = connection.execute(
            "SELECT position, model_version, configuration FROM tracking WHERE projection = ?", (PROJECTION,)
        ).fetchone()
        (deliveries,) = connection.execute("SELECT count(*) FROM deliveries").fetchone()
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if full else "ok"
    with open_to_read(folder.log) as log:
        head = log.head()
    remedy = read_model.REMEDY
    if position > head:
        told = f"it stands for position {position}, but the log ends at {head}: that log was restored, or is another"
        return Finding("read model", "failed", told, f"find out why; then {remedy}")
    if verdict != "ok":
        return Finding("read model", "failed", f"SQLite finds the file damaged: {verdict}", remedy)
    if version != MODEL_VERSION:
        return Finding("read model", "failed", f"its version is {version}, this simtrail's {MODEL_VERSION}", remedy)
    if digest != configuration.digest(configuration.load(folder.configuration)):
        return Finding("read model", "failed", f"it was made with another configuration, {digest[:12]}", remedy)
    if deliveries != position:
        return Finding("read model", "failed", f"it has {deliveries} deliveries at position {position}", remedy)
    return Finding("read model", "ok", f"at position {position} of {head}, {head - position} behind")


def sealing(folder: DataFolder) -> Finding:
    """Whether the log is sealed, by a key that is its owner's alone, and nothing stands against it."""
    state = seal_state(folder.seals)
    if state is None:
        return Finding("seals", "warning", "nothing was sealed yet", "simtrail serve or simtrail seal does it")
    try:
        keys.require(folder.seal_key, state.key, state.origin, how_to_seal.load(folder.sealing).signer)
    except (ConfigurationError, SealError) as error:
        # What the sealer says may well be this: it tries again by itself, others' findings stay.
        told = "; ".join([f"nothing can be signed: {error}", *_refusals(state, but=SEALER)])
        return Finding("seals", "failed", told, "see to the key: once it is there, sealing goes on by itself")
    if state.refusals:
        remedy = (
            "keep log.db and seals.db as they are, and run simtrail verify; "
            "what is mended already, a sealer takes back by itself: simtrail serve or simtrail seal"
        )
        return Finding("seals", "failed", "; ".join(_refusals(state)), remedy)
    with open_to_read(folder.log) as log:
        waiting = log.head() - state.position
    cosigned = f"cosigned up to {state.cosigned}" if state.cosigned else "no witness has cosigned"
    told = f"signed up to position {state.position}, {waiting} behind; {cosigned}"
    return Finding("seals", "ok", told)


def _refusals(state: SealState, *, but: str | None = None) -> list[str]:
    """What stands against the seals, but for what one finder says."""
    return [f"{each.finder} at {each.found_at}: {each.reason}" for each in state.refusals if each.finder != but]


def processes(folder: DataFolder, url: str) -> Finding:
    """Whether the receiver, the sealer and the projector are at work, and the receiver answers."""
    # Receivers of a log on a server hold no lock: any number of them is at work, and each is asked at its URL.
    roles = ROLES if folder.has_log_file else ROLES[1:]
    idle = [role for role in roles if not is_held(folder, role)]
    if idle:
        return Finding("processes", "warning", f"no {', no '.join(idle)} at work here", "simtrail serve starts all")
    ready = _readiness(url)
    if ready is None:
        told = f"the receiver {'is at work, but ' if folder.has_log_file else ''}does not answer at {url}"
        return Finding(
            "processes", "warning", told, "say with --host and --port where it listens, or look into its log"
        )
    if not ready.ready:
        why = ready.log.reason or ready.connections.reason
        return Finding("processes", "failed", f"the receiver at {url} records nothing now: {why}", MENDED)
    return Finding("processes", "ok", f"the receiver answers at {url}, sealer and projector are at work")


def certificate(file: Path, key: Path | None, now: datetime) -> Finding:
    """Whether TLS can be spoken with it, and for how long."""
    try:
        tls.context(file, key)
    except ConfigurationError as error:
        return Finding(
            "certificate", "failed", str(error), "put the right files there; a receiver takes them up by itself"
        )
    first = x509.load_pem_x509_certificates(file.read_bytes())[0]
    begins, ends = first.not_valid_before_utc, first.not_valid_after_utc
    told = f"{file} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    if not begins <= now < ends:
        return Finding("certificate", "failed", f"{told}: not now", "renew it: senders refuse it")
    days = (ends - now).days
    if days < RENEW_DAYS:
        return Finding("certificate", "warning", f"{told}: {days} days more", "renew it, or see why that was not done")
    return Finding("certificate", "ok", f"{told}: {days} days more")


class _Told(msgspec.Struct):
    """A part of what `/readyz` tells."""

    reason: str | None


class _Readiness(msgspec.Struct):
    """What `/readyz` tells, as far as it is looked at here."""

    ready: bool
    log: _Told
    connections: _Told


def _readiness(url: str) -> _Readiness | None:
    """What the receiver there tells of itself, in plain or by TLS; None where none answers."""
    place = urlsplit(url)
    for by_tls in (False, True):
        connection = connection_to(Address(place.hostname or "", place.port or 0, by_tls), ANSWER_S)
        with closing(connection), suppress(OSError, http.client.HTTPException, msgspec.MsgspecError):
            connection.request("GET", "/readyz")
            return msgspec.json.decode(connection.getresponse().read(), type=_Readiness)
    return None


def _unreadable(log: Log, position: int) -> Finding:
    """Which event it is that a page can't be read for."""
    while True:
        try:
            position = log.after(position, max_events=1)[0].position
        except LogError as error:
            told = f"the event after position {position} can't be read: {error}"
            return Finding("events", "failed", told, RESTORE)


def _digests(path: Path) -> Callable[[int, int], dict[int, str]]:
    """What the read model says of the bodies after one position and up to another."""

    def find(after: int, last: int) -> dict[int, str]:
        if not path.exists():
            return {}
        with closing(_connect(path)) as connection:
            sql = "SELECT position, sha256 FROM deliveries WHERE position > ? AND position <= ?"
            return dict(connection.execute(sql, (after, last)))

    return find


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=read_model.LOCK_TIMEOUT_S, isolation_level=None)


def _words(sql: str) -> str:
    """A statement as SQLite keeps it, whatever its spaces."""
    return " ".join(sql.split()).replace(" IF NOT EXISTS", "")
