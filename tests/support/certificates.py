"""Certificates for tests: authorities and what they issue, as files in a temporary folder."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, in memory and as PEM files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path

    def combined_file(self) -> Path:
        """Write certificate and key into one PEM file."""
        path = self.cert_file.with_suffix(".combined.pem")
        path.write_bytes(self.cert_file.read_bytes() + self.key_file.read_bytes())
        return path

    def encrypted_key_file(self, password: str) -> Path:
        """Write the key as PEM under a password."""
        path = self.key_file.with_suffix(".encrypted.pem")
        encryption = BestAvailableEncryption(password.encode())
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return path

    def key_store(self, password: str, *others: x509.Certificate) -> Path:
        """Write a PKCS#12 file with the key, the certificate and other certificates."""
        path = self.cert_file.with_suffix(".p12")
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"monstermq", self.key, self.certificate, others, encryption
            )
        )
        return path


class CertificateAuthority:
    """An authority that issues certificates into a folder; with an issuer, an intermediate one."""

    def __init__(
        self, folder: Path, name: str = "ca", issuer: "CertificateAuthority | None" = None
    ) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        builder = _builder(self._name, self._key.public_key(), None).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        builder = builder.add_extension(_ca_usage(), critical=True)
        if issuer is None:
            self.certificate = self._sign(builder)
        else:
            self.certificate = issuer._sign(builder)
        self.cert_file = folder / f"{name}.pem"
        self.cert_file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, not_after: datetime | None = None) -> Identity:
        """Issue a certificate for localhost, good for servers and clients.

        ``not_after`` ends it at that moment, in the past for an expired one; it then began a year
        before. Without, it is valid from yesterday on for a year.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(_common_name(name), key.public_key(), not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(hosts, critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        )
        certificate = self._sign(builder)
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key.pem"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Identity(certificate, key, cert_file, key_file)

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.issuer_name(self._name).add_extension(issuer_key, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime | None
) -> x509.CertificateBuilder:
    end = not_after or datetime.now(UTC) - timedelta(days=1) + VALIDITY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - VALIDITY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
