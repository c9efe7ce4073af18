"""TLS of the receiver's own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ingest import tls
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ingest.conftest import Receiver, Served


def make(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    return paths


def test_a_sender_that_trusts_the_certificate_is_served(
    receiver: Receiver, run: Callable[..., Served], tmp_path: Path
) -> None:
    """By TLS alone: who speaks in plain is not answered."""
    certificate, key = make(tmp_path, "one")
    served = run(receiver.app, None, tls.context(certificate, key))
    trust = ssl.create_default_context(cafile=certificate)
    url = f"127.0.0.1:{served.port}{receiver.path}"

    assert httpx.post(f"https://{url}", content=b"{}", verify=trust).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://{url}", content=b"{}")
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"https://{url}", content=b"{}")
    assert len(receiver.events()) == 1


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    """As some authorities give them out."""
    certificate, key = make(tmp_path, "one")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert tls.context(certificate, None).minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_that_can_not_be_used_are_errors(tmp_path: Path) -> None:
    """Told with their names, and no password is asked for."""
    certificate, key = make(tmp_path, "one")
    _, other = make(tmp_path, "other")
    _, hidden = make(tmp_path, "hidden", b"password")
    (tmp_path / "garbage").write_bytes(b"garbage")
    for wrong in (
        (tmp_path / "absent", key),
        (certificate, tmp_path / "absent"),
        (certificate, other),
        (certificate, hidden),
        (certificate, None),
        (tmp_path / "garbage", key),
    ):
        with pytest.raises(ConfigurationError, match=r"TLS can't be spoken with the certificate"):
            tls.context(*wrong)
