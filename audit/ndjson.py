r"""NDJSON, canonical: of the same rows there is one file.

Each line is a JSON object (RFC 8259) in UTF-8: all columns, sorted by name, no
white space, nothing escaped that need not be (as RFC 8785 has it; whole numbers
stay exact), and one ``\n`` after each line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from audit.extract import Chunk, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit.extract import Extract

encode_lines = msgspec.json.Encoder(order="deterministic").encode_lines
"""Objects as canonical lines."""


def write(extract: Extract, _scratch: Path) -> Iterator[Chunk]:
    """The file's bytes, a batch of rows at a time."""
    names = [field.name for field in extract.fields]
    for batch in extract.select([quoted(name) for name in names]):
        yield Chunk(encode_lines([dict(zip(names, row, strict=True)) for row in batch]), len(batch))
