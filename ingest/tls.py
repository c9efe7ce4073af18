"""TLS of the receiver's own, for where no proxy stands before it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """What a server of this certificate (PEM, with its chain) speaks: TLS 1.2 or newer, as Python's defaults have it.

    Without a key it is in the certificate's file. Raises `ConfigurationError` where they can't be used.
    """
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A service has nobody to ask for a password.
        made.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # An SSLError is one.
        msg = (
            f"TLS can't be spoken with the certificate {certificate}{f' and the key {key}' if key else ''}: {error}; "
            "both must be PEM, belong together, be readable and not need a password"
        )
        raise ConfigurationError(msg) from error
    return made
