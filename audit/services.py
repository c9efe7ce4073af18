"""The services of an installation: the receiver, the sealer, the projector and Datasette."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from audit.folder import receiving_at
from audit.options import LOG_VARIABLE
from audit.status import caught_up, sealed_up
from audit.supervisor import Service
from projections.read_model import tracked
from schema import log_place
from schema.errors import ConfigurationError, SimtrailError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from audit.folder import DataFolder

ANSWER_S = 2
"""How long a service that listens may take to answer while its start is awaited;
it is asked again after that."""

SUPERVISED = "--supervised"


@dataclass(frozen=True)
class Address:
    """Where a service listens, and whether it speaks TLS. Port 0 stands for any that is free."""

    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """The front of its URLs, as this machine reaches it, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        scheme = "https" if self.tls else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"


def receiver_url(folder: DataFolder, host: str, port: int) -> str:
    """The front of the receiver's URLs: as known, else as the options' defaults are."""
    return known_receiver_url(folder, host, port) or Address(host, port).url


def known_receiver_url(folder: DataFolder, host: str, port: int) -> str | None:
    """The front of the receiver's URLs: as the options say, if one was given; else where the one at work is; None where none says."""
    context = click.get_current_context()
    if all(context.get_parameter_source(name) is ParameterSource.DEFAULT for name in ("host", "port")):
        return receiving_at(folder)
    return Address(host, port).url


def free(addresses: Mapping[str, Address]) -> list[Address]:
    """The addresses, keyed by the options that set their ports, with a free port for any port 0.

    All were free at one moment. Raises `ConfigurationError`, naming the option, for
    one that can't be listened at.
    """
    with ExitStack() as stack:
        return [
            replace(address, port=stack.enter_context(_listening(address, option)).getsockname()[1])
            for option, address in addresses.items()
        ]


def of_installation(
    folder: DataFolder,
    receiver: Address,
    publisher: Address,
    *,
    public: bool,
    receiving: Mapping[str, str] | None = None,
) -> list[Service]:
    """The services of a data folder, in the order in which they start and stop.

    ``receiving`` are the receiver's further options, by their variables.

    The receiver makes the log, which the sealer seals and from which the projector makes the read
    model, which Datasette opens. Stopping, these two take in what the receiver took last.
    """
    data = f"--data={folder.path}"
    log = {LOG_VARIABLE: log_place.url(folder.log)}
    return [
        Service(
            "receiver",
            _command("receive", data, f"--host={receiver.host}", f"--port={receiver.port}"),
            ready=lambda: _answers(receiver, "/livez"),
            environment=log | dict(receiving or {}),
        ),
        Service(
            "sealer",
            _command("seal", data),
            ready=folder.seals.exists,
            settled=lambda: _all_sealed(folder),
            environment=log,
        ),
        Service(
            "projector",
            _command("project", data),
            ready=lambda: _is_there(folder),
            settled=lambda: _nothing_left(folder),
            environment=log,
        ),
        Service(
            "Datasette",
            _command("publish", data, f"--host={publisher.host}", f"--port={publisher.port}", *["--public"] * public),
            ready=lambda: _answers(publisher, "/-/versions.json"),
            environment=log,
        ),
    ]


def _command(name: str, *options: str) -> tuple[str, ...]:
    return ("-m", "audit", name, SUPERVISED, *options)


def _listening(address: Address, option: str) -> socket.socket:
    """A socket that listens at the address."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        taken = socket.socket(family, kind, protocol)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(place)
            # Bound only, one port could still be given to two.
            taken.listen(1)
        except BaseException:
            taken.close()
            raise
    except (OSError, UnicodeError) as error:
        where = f"port {address.port} of {address.host!r}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            msg = f"{where} is in use: stop what uses it, or choose another with {option}"
        else:
            msg = f"can't listen at {where}: {error}; choose another with {option}"
        raise ConfigurationError(msg) from error
    return taken


def _answers(address: Address, path: str) -> bool:
    """Whether a GET is answered, well enough for a service that works."""
    connection = connection_to(address, ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def connection_to(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to a service of this machine. Its certificate is for others, and names another host."""
    host = urlsplit(address.url).hostname or ""
    if not address.tls:
        return http.client.HTTPConnection(host, address.port, timeout=timeout_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, address.port, timeout=timeout_s, context=context)


def _is_there(folder: DataFolder) -> bool:
    try:
        return tracked(folder.read_model) is not None
    except SimtrailError:  # It is being made; a projector that can't make it says so and ends.
        return False


def _nothing_left(folder: DataFolder) -> bool:
    try:
        return caught_up(folder)
    except SimtrailError:  # Waiting can't help; the next start says what is wrong.
        return True


def _all_sealed(folder: DataFolder) -> bool:
    try:
        return sealed_up(folder)
    except SimtrailError:  # As above.
        return True
