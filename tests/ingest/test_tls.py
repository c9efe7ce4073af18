"""TLS of the receiver's own."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from ingest import sources, tls
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


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    """One that is half renewed is not: it is told, and the former one is spoken with until both files are there."""
    paths = make(tmp_path, "served")
    first, (other, other_key) = paths[0].read_bytes(), make(tmp_path, "other")
    certificate = tls.Certificate(*paths)

    def shown() -> bytes:
        """What a handshake shows, in memory."""
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
        client, server = asking.wrap_bio(theirs, ours), certificate.context.wrap_bio(ours, theirs, server_side=True)
        for _ in range(3):
            for side in (client, server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        found = client.getpeercert(binary_form=True)
        assert found is not None
        return ssl.DER_cert_to_PEM_cert(found).encode()

    with capture_logs() as lines:
        certificate.look()
        assert shown() == first
        paths[0].write_bytes(other.read_bytes())
        certificate.look()
        certificate.look()
        assert shown() == first
        paths[1].write_bytes(other_key.read_bytes())
        certificate.look()
        assert shown() == other.read_bytes()
    assert [line["event"] for line in lines] == [
        "certificate unchanged: its files can't be used",
        "certificate renewed",
    ]


def test_serve_speaks_tls_and_takes_what_is_renewed(tmp_path: Path) -> None:
    """The command itself, from its start through a delivery and a renewal to its end."""
    paths = make(tmp_path, "served")
    command = [sys.executable, "-m", "audit", "receive", "--data", str(tmp_path / "data"), "--port", "0"]
    secret = sources_of(tmp_path / "data")
    with subprocess.Popen(
        [*command, "--tls-cert", str(paths[0]), "--tls-key", str(paths[1])], stderr=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stderr is not None
        said = iter(receiver.stderr.readline, "")
        url = next(line for line in said if line.startswith("Receiving at ")).split()[2].rstrip(";")
        try:
            assert url.startswith("https://")
            for _ in range(2):
                trust = ssl.create_default_context(cafile=paths[0])
                answer = httpx.post(f"{url}/webhooks/main/{secret}", content=b"{}", verify=trust)
                assert answer.status_code == 200
                make(tmp_path, "served")
                assert any("certificate renewed" in line for line in said)
        finally:
            receiver.terminate()
        assert receiver.wait(20) == 0


def sources_of(data: Path) -> str:
    """A data folder with a source `main`; its secret."""
    data.mkdir()
    return sources.add(data / "sources.json", "main", now=datetime.now(UTC), entropy=os.urandom)


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
