"""Certificates of the brokers under load."""

import datetime as dt
import ipaddress
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, good for a day: its PEM file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(_certificate_for(key).public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path


def _certificate_for(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )


def pem_files(folder: Path) -> dict[str, str]:
    """The settings of a new certificate."""
    certificate, key = write_certificate(folder)
    return {"CertFile": str(certificate), "KeyFile": str(key)}


def key_store(folder: Path) -> dict[str, str]:
    """A certificate with an RSA key in one encrypted file, which takes longest to read."""
    path, password, key = folder / "monstermq.p12", "bench", _rsa_key()
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            name=b"monstermq",
            key=key,
            cert=_certificate_for(key),
            cas=None,
            encryption_algorithm=serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return {"KeyStore": str(path), "KeyStorePassword": password}


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)
