"""A secret that a sender sends shows nowhere: no line, answer, figure, argument or file of the receiver has it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from ingest.limits import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Process


def ask(process: Process, data: bytes) -> bytes:
    """All that is answered to these bytes."""
    said = b""
    with process.connect() as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65_536):
                said += more
        except ConnectionError:
            pass
    return said


def test_no_secret_shows_anywhere(receive: Callable[..., Process], folder: Path) -> None:
    """However a request that has it goes wrong; and a secret that is nearly right is no better to show."""
    process = receive("Sources.authenticate", "after", "io error")
    path, secret = process.path.encode(), process.secret.encode()
    bearer = b"Authorization: Bearer " + secret
    requests = [
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n" % path,
        b"POST %b\xff HTTP/1.1\r\nHost: x\r\n\r\n" % path,
        b"POST %b" % path,
        b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path,
        b"POST %b/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % path,
        b"POST %bx HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % path,
        b"POST /webhooks/%b/main HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % secret,
        b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\n%b\r\nContent-Length: 5\r\n\r\nhello" % bearer,
        b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\n%b\r\nA: %b\r\n\r\n" % (bearer, b"a" * HEAD_BYTES),
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" % path,
        b"POST %b HTTP/1.1\r\nHost: x\r\nReferer: http://x%b\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
        % (path, path),
    ]

    assert process.post(b"{}") == "200"
    said = b"".join(ask(process, each) for each in requests)
    process.arm()
    # A defect in the midst of a request that has the secret: its traceback shows no variables.
    assert process.post(b"{}") == "500"
    process.arm(armed=False)
    for told in ("/metrics", "/readyz", "/openapi.json"):
        said += httpx.get(process.url + told).content
    arguments = b"".join(Path(f"/proc/{process.process.pid}/{name}").read_bytes() for name in ("cmdline", "comm"))
    process.end()
    lines = process.lines()
    kept = b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())

    for place in (said, arguments, process._err.read_bytes(), kept):
        assert secret not in place
        assert secret[:-1] not in place
    assert {"recorded", "refused", "receiving", "stopped"} <= {str(line["event"]) for line in lines}
    assert "Traceback" in process._err.read_text()
