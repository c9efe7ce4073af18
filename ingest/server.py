"""The receiver's process: socket, appender, writer and uvicorn, begun and ended in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

import structlog
import uvicorn

from ingest import appender, loglines, memory
from ingest.app import create_app
from ingest.counts import Counts
from ingest.delivery_lines import DeliveryLines
from ingest.limits import KEEP_ALIVE_S, STOP_S, Limits
from ingest.protocol import HttpProtocol
from ingest.readiness import out_of_descriptors
from ingest.shortcut import ShortcutProtocol
from ingest.sources import Sources
from ingest.writer import Writer
from schema.body import not_json
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path
    from ssl import SSLContext
    from types import FrameType

    from starlette.types import ASGIApp

    from ingest.readiness import Lag, Tell
    from ingest.receipts import FindReceipt
    from ingest.tls import Certificate
    from schema.log_place import Place

HOST = "127.0.0.1"
PORT = 8080

TICKS_PER_S = 10
"""How often uvicorn looks around."""

SWITCH_S = 0.000_2
"""After so many seconds a thread that waits for the interpreter gets it. The event loop waits so long for the one
that examines large bodies; by Python's default, it would be five milliseconds."""

RING_MORE_BYTES = 1024 * 1024
"""The ring has room for the largest body, its headers, and what is small beside them."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_lines = structlog.get_logger("simtrail.server")


def serve(  # noqa: PLR0913 - the ends of a process, each by its name
    *,
    place: Place,
    sources_path: Path,
    clock: Callable[[], datetime],
    ready: Callable[[str], None],
    host: str = HOST,
    port: int = PORT,
    forwarded_allow_ips: str | None = None,
    tls: Certificate | None = None,
    limits: Limits | None = None,
    delivery_lines: bool = True,
    lag: Callable[[], Lag] | None = None,
    seals: Tell | None = None,
    receipts: FindReceipt | None = None,
    held: Sequence[int] = (),
) -> int:
    """Receive until SIGINT or SIGTERM; the exit code: 0, or 1 if the appender has ended before that.

    Call it in the main thread. ``ready`` is given the URL, without a path, once
    requests are answered; port 0 takes a free one. ``forwarded_allow_ips`` are the proxies, as
    uvicorn has them, whose word on the sender's address is taken; none by default. With ``tls`` it is spoken
    (see `ingest.tls`), and nothing else; a renewed certificate is taken by itself. Each delivery has a line in the log unless
    ``delivery_lines`` is false. ``lag``, ``seals`` and ``receipts`` are as for `create_app`. ``held`` are
    descriptors of locks which the appender is to keep as long as it is at work.

    Raises `ConfigurationError` where the address can't be listened on, the proxies are no addresses or the
    sources can't be read, `LogUnavailable` where the log can't be opened, or its appender does not end.
    """
    loglines.configure()
    memory.keep()
    _require_addresses(forwarded_allow_ips)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        url = _url(listener, "http" if tls is None else "https")
        sources = Sources(sources_path)
        lines = stack.enter_context(DeliveryLines(sys.stderr.buffer, clock)) if delivery_lines else None
        counts = Counts(lines)
        ring_bytes = (limits or Limits()).body_bytes + RING_MORE_BYTES
        channel, ring = stack.enter_context(appender.started(place, ring_bytes, held))
        writer = Writer(channel, ring, counts=counts, clock=clock)
        app = create_app(
            sources,
            writer,
            clock=clock,
            not_json=not_json,
            limits=limits,
            lag=lag,
            seals=seals,
            receipts=receipts,
            counts=counts,
        )

        def listening() -> None:
            writer.attach()
            _lines.info("receiving", url=url, log=str(place))
            ready(url)

        context = None if tls is None else tls.context
        server = Server(configuration(app, forwarded_allow_ips, context), listening, tls, lambda: writer.bereft)
        stack.enter_context(_stopped_by_signals(server))
        stack.enter_context(writer)
        # What is loaded by now stays: the collector would go through it all, now and then, while deliveries wait.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        server.run(sockets=[listener])
    _lines.info("stopped", reason=writer.failure)
    return 0 if writer.failure is None else 1


def configuration(
    app: ASGIApp, forwarded_allow_ips: str | None = None, tls: SSLContext | None = None
) -> uvicorn.Config:
    """How uvicorn is run: fast, and silent about URLs, since they hold secrets."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=ShortcutProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        # Ours (see `loglines`). The level is set, since at "trace" uvicorn logs each request's path.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Never from the environment: who may speak for a sender is a setting of ours.
        proxy_headers=forwarded_allow_ips is not None,
        forwarded_allow_ips=forwarded_allow_ips or "",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


class Server(uvicorn.Server):
    """uvicorn's server, which says when it answers, and when it can't; and stops when it is bereft of its appender."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        tls: Certificate | None = None,
        bereft: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self._bereft = bereft
        self._ready = ready
        self._tls = tls
        self._shut: str | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn, ten times a second."""
        # Whoever started this process does so again, as if it had been killed itself.
        self.should_exit = self.should_exit or self._bereft()
        if counter % TICKS_PER_S == 0:
            self._look_at_descriptors()
            if self._tls is not None:
                self._tls.look()
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.look_at_clock(now)
        return await super().on_tick(counter)

    def _look_at_descriptors(self) -> None:
        # The event loop closes a connection that it has no descriptor for, and tells nobody.
        shut = out_of_descriptors()
        if shut is not None and self._shut is None:
            _lines.error("no connection can be accepted", reason=shut, remedy="a higher limit of open files")
        elif shut is None and self._shut is not None:
            _lines.info("connections are accepted again")
        self._shut = shut


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Signals stop the server, and nothing else.

    uvicorn handles them while it runs, and then raises them once more for whoever
    handled them before: by default that would end the process before the writer has handed over what waits.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    earlier = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _require_addresses(proxies: str | None) -> None:
    # uvicorn takes what is no address for a name, and then waits for ever for one that is called so.
    for proxy in (proxies or "").split(","):
        try:
            if proxy.strip() not in {"", "*"}:
                ip_network(proxy.strip())
        except ValueError as error:
            msg = f"{proxy.strip()!r} is not the address of a proxy: {error}; take addresses or networks, with commas between"
            raise ConfigurationError(msg) from error


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        msg = (
            f"the receiver can't listen on {host} port {port}: {error}; take another host or port, or end what uses it"
        )
        raise ConfigurationError(msg) from error


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
