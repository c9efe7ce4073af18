"""An export: a snapshot of the read model and the events behind it, as files that say what they are.

The files come one after another, each as bytes that come about as they are asked
for, so that an export is written to a folder or streamed in an answer without
ever being held. The last is ``datapackage.json``: without it there is no export.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from audit import events, formats
from audit.datapackage import Digest, Resource, descriptor, resource_of
from audit.extract import Chunk, ExportError
from audit.formats import FORMATS
from audit.selection import EVENTS
from audit.snapshot import hold, require_source
from schema.event import instant
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from audit.formats import Format
    from audit.selection import Selection
    from audit.snapshot import Snapshot
    from schema.log import Log
    from schema.log_place import Place

DESCRIPTOR: Final = "datapackage.json"


@dataclass(frozen=True)
class Entry:
    """One file of an export: its path in it, safe on any system, and its bytes as they come about."""

    path: str
    chunks: Iterator[Chunk]


@dataclass(frozen=True)
class Part:
    """A part of an export: what its file holds, and how the file's bytes come about."""

    resource: Resource
    write: Callable[[Path], Iterator[Chunk]]


@dataclass(frozen=True)
class Export:
    """What is to be exported, of one snapshot. `prepare` makes one; its entries are read once, in order.

    ``created`` is when; ``head`` is the position of the log's last event then;
    ``received`` counts the events in the range.
    """

    snapshot: Snapshot
    selection: Selection
    parts: tuple[Part, ...]
    created: str
    head: int
    received: int

    @property
    def rows(self) -> int:
        """The rows of all parts: what the chunks of the entries add up to."""
        return sum(part.resource.rows for part in self.parts)

    @property
    def open_ended(self) -> bool:
        """Whether the range goes on after the export."""
        return self.selection.until is None or self.selection.until > self.created

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """The files, the descriptor last; each is to be read to its end before the next.

        ``scratch`` is a folder to keep files in meanwhile. Raises `ExportError` where
        what is read turns out not to be whole.
        """
        written: list[tuple[Resource, Digest]] = []
        for part in self.parts:
            tally = _Tally()
            yield Entry(part.resource.path, tally.of(part.write(scratch)))
            digest = tally.digest()
            _require_all(part.resource, digest)
            written.append((part.resource, digest))
        contents = _Tally()
        if "files" in self.selection.parts:
            yield from self._contents(contents)
        yield Entry(DESCRIPTOR, iter([Chunk(descriptor(self, written, contents.digest()), 0)]))

    def _contents(self, tally: _Tally) -> Iterator[Entry]:
        for sha256, path, content in self.snapshot.contents(self.selection):
            # The name is made of the key: a key that isn't the content's own would be anybody's word.
            if hashlib.sha256(content).hexdigest() != sha256:
                msg = f"the file {sha256} of the read model isn't what it was: its content has another SHA-256; project the log anew"
                raise ExportError(msg)
            yield Entry(path, tally.of(iter([Chunk(content, 0)])))


class _Tally:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._files = self._bytes = self._rows = 0

    def of(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The same chunks."""
        for chunk in chunks:
            self._sha256.update(chunk.data)
            self._bytes += len(chunk.data)
            self._rows += chunk.rows
            yield chunk
        self._files += 1

    def digest(self) -> Digest:
        """What has passed, to the end of each file."""
        return Digest(self._files, self._bytes, self._rows, self._sha256.hexdigest())


@contextmanager
def prepare(read_model: Path, place: Place, selection: Selection, form: Format, *, now: datetime) -> Iterator[Export]:
    """An export of the read model as it is now, held for the length of the context.

    Raises `SimtrailError` where it can't be made whole: there is no read model, it
    is behind the log for a range that has ended, nothing was ever received from the
    source, or the format can't hold that many rows.
    """
    with ExitStack() as stack:
        snapshot = stack.enter_context(hold(read_model))
        if selection.source is not None:
            require_source(snapshot, selection.source)
        log = stack.enter_context(open_to_read(place))
        parts = tuple(
            _events(snapshot, selection, log) if name == EVENTS else _table(snapshot, selection, name, form)
            for name in selection.parts
        )
        received = snapshot.extract("deliveries", selection).rows
        export = Export(snapshot, selection, parts, instant(now), log.head(), received)
        if not export.open_ended:
            events.require_projected(log, selection, snapshot.position)
        yield export


def _table(snapshot: Snapshot, selection: Selection, name: str, form: Format) -> Part:
    extract = snapshot.extract(name, selection)
    formats.require_room(form, extract)
    return Part(resource_of(extract, form), lambda scratch: form.write(extract, scratch))


def _events(snapshot: Snapshot, selection: Selection, log: Log) -> Part:
    deliveries = snapshot.extract("deliveries", selection)
    form, first, last = FORMATS["ndjson"], deliveries.first or 1, deliveries.last or 0
    path = f"{EVENTS}.{form.name}"
    resource = Resource(
        EVENTS, path, form, events.FIELDS, events.KEY, deliveries.rows, deliveries.first, deliveries.last
    )
    return Part(resource, lambda _scratch: events.write(log, selection, first, last))


def _require_all(resource: Resource, digest: Digest) -> None:
    if digest.rows != resource.rows:
        msg = f"{resource.name} has {resource.rows:,} rows, and {digest.rows:,} were read: the log and the read model don't agree"
        raise ExportError(msg)
