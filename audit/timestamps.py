"""Time-stamps (RFC 3161): an authority's word that an anchor was there at a time.

`rfc3161-client` reads, makes and verifies them; it is an optional extra, since few
installations need what a witness does not give them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from cryptography import x509

from schema.errors import ConfigurationError, ProofError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from audit.sealing import Stamps

QUERY = "application/timestamp-query"

ANSWER_BYTES = 256 * 1024
"""Bytes of an authority's answer at most: a signature and a chain of certificates have some 10 KB."""


def stamp(text: str, stamps: Stamps, http: httpx.Client) -> bytes:
    """The authority's time-stamp of an anchor's text, in DER, once it is verified.

    Raises `ProofError` where it gives none that is good, `ConfigurationError` where the
    extra or the certificates are missing.
    """
    verify = verifier(Path(stamps.certificates))
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder  # noqa: PLC0415 - an extra, and here it is there

    request = TimestampRequestBuilder().data(text.encode()).hash_algorithm(HashAlgorithm.SHA256).nonce().build()
    try:
        answer = http.post(stamps.url, content=request.as_bytes(), headers={"Content-Type": QUERY})
        answer.raise_for_status()
    except httpx.HTTPError as error:
        msg = f"{stamps.url} gave no time-stamp: {error}"
        raise ProofError(msg) from error
    if len(answer.content) > ANSWER_BYTES:
        msg = f"{stamps.url} answered {len(answer.content)} bytes, which is no time-stamp"
        raise ProofError(msg)
    verify(answer.content, text, request.nonce)
    return answer.content


def verifier(certificates: Path) -> Callable[[bytes, str, int | None], datetime]:
    """What verifies a time-stamp of an anchor's text against the certificates in a PEM file; the time that it gives.

    It raises `ProofError` for one that is not good; a nonce that is given must be the time-stamp's. Raises
    `ConfigurationError` where the extra or the certificates are missing.
    """
    try:
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response  # noqa: PLC0415
    except ImportError as error:
        msg = "time-stamps need rfc3161-client, which is not installed: requirements/timestamps.txt has it, pinned"
        raise ConfigurationError(msg) from error
    try:
        roots = x509.load_pem_x509_certificates(certificates.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"the certificates {certificates} of the time-stamp authority can't be read: {error}"
        raise ConfigurationError(msg) from error

    def verify(token: bytes, text: str, nonce: int | None) -> datetime:
        try:
            response = decode_timestamp_response(token)
            VerifierBuilder(roots=roots, nonce=nonce).build().verify_message(response, text.encode())
        except (VerificationError, ValueError) as error:
            msg = f"the time-stamp is not good: {error}"
            raise ProofError(msg) from error
        return response.tst_info.gen_time

    return verify
