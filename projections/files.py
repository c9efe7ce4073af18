"""The files: each distinct content once, and one row for each file of each delivery."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from projections.context import Context
    from schema.readings import File


def keep(context: Context, files: Iterable[File]) -> int:
    """Keep the files of a delivery; how many there were. One whose base64 is bad has no content."""
    count = 0
    for n, file in enumerate(files):
        count += 1
        sha256 = None if file.content is None else hashlib.sha256(file.content).hexdigest()
        if file.content is not None and sha256 is not None:
            context.model.files.rows.append(
                (sha256, file.name, file.media_type, len(file.content), file.content, context.position),
            )
        context.model.delivery_files.rows.append((context.position, n, sha256, file.name, file.media_type))
    return count
