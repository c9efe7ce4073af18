"""TLS of the receiver's own, for where no proxy stands before it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import structlog

from schema import registry
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_lines = structlog.get_logger("simtrail.tls")


class Certificate:
    """A certificate (PEM, with its chain) and its key, followed: one that was renewed counts from the next handshake.

    Files that can't be used, or not together, change nothing but a line in the receiver's own log. Raises
    `ConfigurationError` when made, if they can't be used then.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = certificate, key
        self._seen = self._signatures()
        self.context = context(certificate, key)

    def look(self) -> None:
        """See whether the files are others. Called about once a second."""
        if (seen := self._signatures()) == self._seen:
            return
        self._seen = seen
        certificate, key = self._files
        try:
            # Tried on another first: one that fails may leave a certificate without its key.
            context(certificate, key)
            self.context.load_cert_chain(certificate, key, password=_no_password)
        except (ConfigurationError, OSError) as error:
            _lines.error("certificate unchanged: its files can't be used", reason=str(error))
        else:
            _lines.info("certificate renewed", file=str(certificate))

    def _signatures(self) -> list[tuple[int, int, int] | None]:
        return [registry.signature(path) for path in self._files if path is not None]


def _no_password() -> str:
    """A service has nobody to ask for one."""
    return ""


def context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """What a server of this certificate (PEM, with its chain) speaks: TLS 1.2 or newer, as Python's defaults have it.

    Without a key it is in the certificate's file. Raises `ConfigurationError` where they can't be used.
    """
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # An SSLError is one.
        msg = (
            f"TLS can't be spoken with the certificate {certificate}{f' and the key {key}' if key else ''}: {error}; "
            "both must be PEM, belong together, be readable and not need a password"
        )
        raise ConfigurationError(msg) from error
    return made
