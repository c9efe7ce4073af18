"""What pages say of the proofs: how the log is sealed, and the receipt of a delivery."""

from __future__ import annotations

import shlex
from http import HTTPStatus
from typing import TYPE_CHECKING

from datasette.utils.asgi import Response  # type: ignore[import-untyped]

from audit import bundle
from audit import seals as sealed
from audit.proof import receipt as receipt_of
from audit.seal_state import seal_state
from audit.site import page
from audit.site.installation import installation
from schema.errors import NotSealed, SimtrailError
from schema.log import open_to_read

if TYPE_CHECKING:
    from audit.folder import DataFolder
    from audit.site.installation import Datasette, Installation, Request


def state(installed: Installation | None) -> dict[str, object] | None:
    """How the log is sealed; None where that can't be looked at, or nothing was sealed yet."""
    if installed is None or installed.folder is None:
        return None
    try:
        found = seal_state(installed.folder.seals)
    except SimtrailError as error:
        return {"error": str(error)}
    if found is None:
        return None
    return {
        "position": found.position,
        "cosigned": found.cosigned,
        "cosigned_by": ", ".join(found.cosigned_by),
        "quoted_key": shlex.quote(found.key),
        "refusals": [
            {"finder": each.finder, "reason": each.reason, "found_at": each.found_at} for each in found.refusals
        ],
    }


async def receipt(datasette: Datasette, request: Request) -> object:
    """The receipt of a delivery (C2SP tlog-proof), to be kept as a file. It names no one: digests, time, source."""
    page.require_role()
    position = int(page.key_of(request))
    installed = installation(datasette)
    folder = page.found(installed.folder if installed else None, "the log")
    status, text = await page.in_thread(lambda given: _receipt(given, position), folder)
    # Only a receipt is offered as a file.
    name = {"content-disposition": f'attachment; filename="{position}.tlog-proof"'}
    return Response(text, status, name if status == HTTPStatus.OK else {}, "text/plain; charset=utf-8")


async def verifier(datasette: Datasette, request: Request) -> object:  # noqa: ARG001 - Datasette's signature
    """The program that checks receipts and bundles, to be kept as a file."""
    page.require_role()
    name = {"content-disposition": f'attachment; filename="{bundle.VERIFIER}"'}
    program = (await page.in_thread(lambda _: bundle.verifier(), None)).decode()
    return Response(program, HTTPStatus.OK.value, name, "text/x-python; charset=utf-8")


def _receipt(folder: DataFolder, position: int) -> tuple[int, str]:
    """The receipt, or why there is none now."""
    try:
        with open_to_read(folder.log) as log, sealed.open_to_read(folder.seals) as seals:
            return HTTPStatus.OK.value, str(receipt_of(log, seals, position))
    except NotSealed as error:
        return HTTPStatus.SERVICE_UNAVAILABLE.value, f"{error}\n"
    except SimtrailError as error:
        return HTTPStatus.NOT_FOUND.value, f"{error}\n"
