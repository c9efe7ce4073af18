"""The load: as many connections as told, each of which posts again as soon as it is answered.

By wrk where it is installed; else by this file's own client, in a process of its own:

    python -m bench.load URL BODY CONNECTIONS SECONDS
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

ROOT = Path(__file__).parents[1]

TIMEOUT_S = 60
"""How long wrk waits for one answer: what takes longer would be counted as an error."""

PERCENTILES = (50.0, 99.0, 99.9)

WRK_SCRIPT = r"""
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\nTOLD {{"posts": %d, "seconds": %f, "errors": %d, "ms": [%f, %f, %f]}}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What a client saw: answers, in how many seconds, errors, and the latencies at `PERCENTILES`.

    Errors are answers other than 2xx, and posts that got none. The latencies of wrk are corrected for coordinated
    omission: a wait counts as all the posts that a steady sender would have made meanwhile, each with what was left of it.
    The bundled client counts each post that there was, once.
    """

    posts: int
    seconds: float
    errors: int
    ms: list[float]


def client(*, bundled: bool = False) -> str:
    """Which client posts: wrk where it is installed, unless the bundled one is asked for."""
    return "wrk" if shutil.which("wrk") and not bundled else "the bundled asyncio client"


def post(url: str, body: Path, *, connections: int, seconds: float, bundled: bool = False) -> Load:
    """Post the body in a file for some seconds, by wrk unless the bundled client is asked for, and tell what it was like."""
    wrk = None if bundled else shutil.which("wrk")
    if wrk is None:
        command = [sys.executable, "-m", "bench.load", url, str(body), str(connections), str(seconds)]
    else:
        script = body.with_suffix(".lua")
        script.write_text(WRK_SCRIPT.format(body=body))
        # wrk knows whole seconds only.
        wait = ["-d", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"]
        command = [wrk, "-t", "1", "-c", str(connections), *wait, "-s", str(script), url]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    told = re.search(r"^TOLD (.*)$", said, re.MULTILINE)
    if told is None:
        msg = f"the client said nothing of what it saw: {said}"
        raise RuntimeError(msg)
    return Load(**json.loads(told[1]))


class _Connection(asyncio.Protocol):
    """Posts, awaits the answer, and posts again until the deadline."""

    def __init__(self, request: bytes, deadline: float, taken: list[float]) -> None:
        self._request = request
        self._deadline = deadline
        self._taken = taken
        self._answer = b""
        self.errors = 0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._post()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if not blank or length is None or len(body) < int(length[1]):
            return
        now = time.perf_counter()
        if head[9:10] == b"2":
            self._taken.append(now - self._begun)
        else:
            self.errors += 1
        self._answer = b""
        if now < self._deadline:
            self._post()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += error is not None or time.perf_counter() < self._deadline
        self.over.set_result(None)

    def _post(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)


async def _load(url: str, body: bytes, connections: int, seconds: float) -> Load:
    address = urlsplit(url)
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    taken: list[float] = []
    begun = time.perf_counter()
    made = [
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(head.encode() + body, begun + seconds, taken),
            address.hostname or "",
            address.port or 80,
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.over for _, connection in made))
    taken.sort()
    ms = [taken[int((len(taken) - 1) * percentile / 100)] * 1000 for percentile in PERCENTILES] if taken else []
    errors = sum(connection.errors for _, connection in made)
    return Load(len(taken) + errors, time.perf_counter() - begun, errors, ms)


def main() -> None:
    """The client's process."""
    url, body, connections, seconds = sys.argv[1:]
    load = _load(url, Path(body).read_bytes(), int(connections), float(seconds))
    print("TOLD", json.dumps(asdict(uvloop.run(load))))


if __name__ == "__main__":
    main()
