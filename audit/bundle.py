"""Evidence bundles: events of a range with all that proves them, to be checked without simtrail.

A bundle is a BagIt bag (RFC 8493): a folder of plain files, each listed with its SHA-256,
which may be packed into one zip file. `verify.py` in it is `audit/verify_bundle.py`.
docs/proof-format.md describes every file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from audit import leaf as leaves
from audit import merkle, verify_bundle
from schema.errors import ConfigurationError, NotSealed, ProofError
from schema.event import instant
from schema.registry import FILE_MODE, FOLDER_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from audit.merkle import Node
    from audit.seals import Head, Seals
    from schema.log import Log, Stored

README = """\
Evidence from {origin}: positions {first} to {last}.

To check it:     python3 verify.py
What it checks, and how to give it the keys that you know:     python3 verify.py --help

Python 3.9 or newer is all that it needs. If you don't trust this bundle, take verify.py from
elsewhere: it is audit/verify_bundle.py of simtrail. This copy has the SHA-256
{verifier}

data/events.ndjson     an event a line: its state as stored, its leaf, and its audit path
data/anchors/          the signed heads of the log before and after these events, and time-stamps of them
data/keys.json         the public keys of the log and its witnesses
data/proofs.json       that nothing was changed between the anchors, and nothing left out
"""

VERIFIER = "verify.py"
"""What the verifier is called wherever it is given out."""

STAMPS = 100
"""Time-stamps after a range that are looked at for one of an anchor that is cosigned too: some days of hourly ones."""

ZIP_BYTES = (1 << 32) - (1 << 24)
"""Bytes of a bundle that is packed at most: the plain zip format ends at 4 GiB."""

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip: the first that the format has, so that the bytes are always the same."""


def write(  # noqa: PLR0913 - what a bundle is of, each by name
    target: Path,
    log: Log,
    seals: Seals,
    *,
    first: int,
    last: int,
    made_by: str,
    now: datetime,
    tables: Path | None = None,
    published: Mapping[str, object] | None = None,
) -> None:
    """Write the events from one position to another, with their proofs, to a folder that is not there yet.

    ``tables`` is a folder of exported tables to be put in, ``published`` the digests of all
    published tables and what made them. Raises `NotSealed` where the last
    event waits to be sealed, `ProofError` where there is no event or one can't be proven,
    `ConfigurationError` where the folder can't be written.
    """
    start, end, newest = require_sealed(log, seals, first, last)
    head = _attested(seals, end) or newest
    beside = target.with_name(f".{target.name}.new")
    try:
        if target.exists():
            msg = f"{target} is there already: a bundle is never written over another"
            raise ConfigurationError(msg)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(FOLDER_MODE)
        data = beside / "data"
        (data / "anchors").mkdir(parents=True)
        node = seals.node
        positions = _write_events(data / "events.ndjson", _rows(log, first, start, end), node, head.size)
        before = _write_proofs(data, seals, node, start, end, head)
        about = {
            "format": verify_bundle.FORMAT,
            "origin": seals.origin,
            "range": {
                "first_position": positions[0],
                "last_position": positions[1],
                "first_index": start,
                "events": end - start,
            },
            "first_anchor": before.size if before else None,
            "last_anchor": head.size,
            "made_at": instant(now),
            "made_by": made_by,
            "published": published,
        }
        _write_json(data / "bundle.json", about)
        if tables is not None:
            shutil.copytree(tables, data / "tables")
        program = verifier()
        (beside / VERIFIER).write_bytes(program)
        readme = README.format(
            origin=seals.origin,
            first=positions[0],
            last=positions[1],
            verifier=hashlib.sha256(program).hexdigest(),
        )
        _write_text(beside / "README.txt", readme)
        _write_bag(beside, made_by, now)
        beside.rename(target)
    except OSError as error:
        msg = f"the bundle {target} can't be written: {error.strerror} ({error.filename})"
        raise ConfigurationError(msg) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def verifier() -> bytes:
    """The verifier: the one file of Python that lies in every bundle, and checks receipts too."""
    return Path(verify_bundle.__file__).read_bytes()


def require_sealed(log: Log, seals: Seals, first: int, last: int) -> tuple[int, int, Head]:
    """The leaves of a range of positions, from one number up to another, and the newest head.

    Raises `NotSealed` where the last event waits to be sealed, `ProofError` where there is none.
    """
    start, end = seals.leaves_before(first), seals.leaves_before(last + 1)
    newest = seals.last(signed=True)
    sealed = newest.position if newest else 0
    if newest is None or newest.size < end or sealed < min(last, log.head()):
        msg = f"positions {first} to {last} are sealed up to {sealed} only: try again in a second"
        raise NotSealed(msg)
    if start == end:
        msg = f"no event was sealed from position {first} to {last}"
        raise ProofError(msg)
    return start, end, newest


def pack(folder: Path, target: Path) -> None:
    """Pack a bundle into a zip file; the same bytes whenever it is done. Raises `ConfigurationError`."""
    names = sorted(path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.is_file())
    beside = target.with_name(f".{target.name}.new")
    try:
        beside.unlink(missing_ok=True)
        beside.touch(FILE_MODE, exist_ok=False)
        size = sum((folder.parent / name).stat().st_size for name in names)
        if size > ZIP_BYTES:
            msg = f"the bundle has {size} bytes, a zip file takes {ZIP_BYTES}: keep the folder, or take a smaller range"
            raise ConfigurationError(msg)
        with zipfile.ZipFile(beside, "w", allowZip64=False) as packed:
            for name in names:
                entry = zipfile.ZipInfo(name, ZIP_TIME)
                entry.external_attr = 0o100644 << 16
                entry.file_size = (folder.parent / name).stat().st_size
                with (folder.parent / name).open("rb") as source, packed.open(entry, "w") as copy:
                    shutil.copyfileobj(source, copy)
        beside.rename(target)
    except OSError as error:
        msg = f"the bundle can't be packed into {target}: {error.strerror}"
        raise ConfigurationError(msg) from error
    finally:
        beside.unlink(missing_ok=True)


def _write_events(path: Path, rows: Iterator[tuple[int, Stored]], node: Node, size: int) -> tuple[int, int]:
    """Write a line for each event; the first and the last position."""
    first = position = 0
    with path.open("w", encoding="ascii", newline="\n") as file:
        for index, row in rows:
            leaf = leaves.encode(leaves.of(row))
            position = row[0]
            first = first or position
            if merkle.leaf_hash(leaf) != node(0, index):
                raise _not_as_sealed(position)
            line = {
                "position": position,
                "index": index,
                "leaf": _base64(leaf),
                "state": _base64(row[2]),
                "path": [_base64(each) for each in merkle.inclusion(index, size, node)],
            }
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return first, position


def _rows(log: Log, first: int, start: int, end: int) -> Iterator[tuple[int, Stored]]:
    """The stored events from a position on, each with the number of its leaf."""
    index, position = start, first - 1
    while index < end:
        rows = log.stored_after(position)
        if not rows:
            raise _not_as_sealed(position + 1)
        for row in rows[: end - index]:
            yield index, row
            index, position = index + 1, row[0]


def _attested(seals: Seals, end: int) -> Head | None:
    """The head that others vouch for most, of those that hold the leaves up to a number; None where there is none.

    A bundle has the attestations of its own anchors alone, and seldom is one both time-stamped and cosigned: the first that is;
    else the last that is cosigned; else the first that is time-stamped, as it tells most of when these leaves were there.
    """
    stamped = [stamp.size for stamp in seals.timestamps(above=end - 1, limit=STAMPS)]
    both = (size for size in stamped if any(known.role == "witness" for known, _ in seals.signatures(size)))
    if (size := next(both, None)) is None:
        cosigned = seals.cosigned(above=end - 1)
        if cosigned is not None or not stamped:
            return cosigned
        size = stamped[0]
    return seals.heads(above=size - 1, up_to=size, signed=True)[0]


def _write_anchor(path: Path, seals: Seals, size: int) -> None:
    """Write the anchor of a size and, beside it, its time-stamp, if it has one."""
    _write_text(path, str(seals.note(size)))
    stamps = seals.timestamps(above=size - 1)
    if stamps and stamps[0].size == size:
        path.with_suffix(verify_bundle.STAMP).write_bytes(stamps[0].token)


def _write_proofs(data: Path, seals: Seals, node: Node, start: int, end: int, head: Head) -> Head | None:  # noqa: PLR0913, PLR0917
    """Write the anchors around a range of leaves, what links them, and the keys; the anchor before, if there is one."""
    found = seals.heads(up_to=start, descending=True, signed=True)
    before = found[0] if found else None
    _write_anchor(data / "anchors" / "last.txt", seals, head.size)
    if before is not None:
        _write_anchor(data / "anchors" / "first.txt", seals, before.size)
    proofs = {
        "consistency": merkle.consistency(before.size, head.size, node) if before else [],
        "left": [node(*subtree) for subtree in merkle.subtrees(0, start)],
        "right": [node(*subtree) for subtree in merkle.subtrees(end, head.size)],
    }
    _write_json(data / "proofs.json", {name: [_base64(each) for each in path] for name, path in proofs.items()})
    signers = {
        known.number
        for size in {head.size, before.size if before else head.size}
        for known, _ in seals.signatures(size)
    }
    keys = [
        {"role": known.role, "vkey": known.key.vkey, "since_size": known.since_size, "introduced": known.introduced}
        for known in seals.known_keys()
        if known.role == "log" or known.number in signers
    ]
    _write_json(data / "keys.json", {"keys": keys})
    return before


def _write_bag(folder: Path, made_by: str, now: datetime) -> None:
    """Write what makes a folder a bag: declaration, description, and the manifests."""
    payload = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] == "data"]
    size = sum(path.stat().st_size for path in payload)
    (folder / "bagit.txt").write_bytes(verify_bundle.BAGIT)
    info = {
        "Bagging-Date": instant(now)[:10],
        "Bag-Software-Agent": made_by,
        "Payload-Oxum": f"{size}.{len(payload)}",
    }
    _write_text(folder / "bag-info.txt", "".join(f"{name}: {value}\n" for name, value in info.items()))
    _write_manifest(folder, "manifest-sha256.txt", payload)
    tags = [path for path in folder.iterdir() if path.is_file()]
    _write_manifest(folder, "tagmanifest-sha256.txt", tags)


def _write_manifest(folder: Path, name: str, files: list[Path]) -> None:
    lines = []
    for path in sorted(files):
        listed = path.relative_to(folder).as_posix()
        if not re.fullmatch("[!-~]+", listed):
            msg = f"{listed!r} can't be in a bundle: names of files are printable ASCII without spaces"
            raise ConfigurationError(msg)
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {listed}\n")
    _write_text(folder / name, "".join(lines))


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    _write_text(path, json.dumps(document, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _not_as_sealed(position: int) -> ProofError:
    return ProofError(
        f"the event at position {position} is not the one that was sealed: `simtrail verify` tells what was changed"
    )
