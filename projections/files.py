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
        sha256 = None if file.content is None else keep_content(context, file.name, file.media_type, file.content)
        context.model.delivery_files.rows.append((context.position, n, sha256, file.name, file.media_type))
    return count


def keep_content(context: Context, name: str | None, media_type: str | None, content: bytes) -> str:
    """Keep a content, if it is not kept yet; its sha256 in lower-case hex."""
    sha256 = hashlib.sha256(content).hexdigest()
    context.model.files.rows.append((sha256, name, media_type, len(content), content, context.position))
    return sha256
