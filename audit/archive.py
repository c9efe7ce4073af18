"""The archive: an export as one ZIP file, whose bytes come about as they are asked for.

The list of what is in it comes last, so an archive that was cut short can't be
taken for a whole one.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Final

from audit.extract import Chunk

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from audit.export import Entry

DATE: Final = (1980, 1, 1, 0, 0, 0)
"""Of each file, the earliest that ZIP knows: the same files make the same archive."""

MODE: Final = 0o600
"""Files of an export are their owner's alone once they are unpacked."""

LEVEL: Final = 1
"""Of compression: 9 makes it a tenth smaller and takes many times as long."""


def pack(entries: Iterable[Entry]) -> Generator[Chunk]:
    """The bytes of an archive of these files."""
    taken = _Taken()
    with zipfile.ZipFile(taken, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.path, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = MODE << 16
            # Its size isn't known before: room for more than 4 GB is always made.
            with archive.open(info, "w", force_zip64=True) as file:
                for chunk in entry.chunks:
                    file.write(chunk.data)
                    yield Chunk(taken.take(), chunk.rows)
    yield Chunk(taken.take(), 0)


class _Taken:
    """Takes what an archive writes, until it is passed on. It can't be sought in, so nothing is changed afterwards."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Called by zipfile."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Called by zipfile."""

    def close(self) -> None:
        """Called by zipfile."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
