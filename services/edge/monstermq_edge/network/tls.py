"""TLS for the broker's ports: from files in PEM or PKCS#12 to a context that can be reloaded.

Everything is read with ``cryptography`` first, because it says what is wrong with a file where
OpenSSL says ``PEM lib``; the context is then filled by ``ssl``.
"""

import secrets
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode

EXPIRY_WARNING = timedelta(days=14)
"""How long before its end a certificate is warned about."""

_JAVA_KEYSTORES = {b"\xfe\xed\xfe\xed": "JKS", b"\xce\xce\xce\xce": "JCEKS"}
_DER_SEQUENCE = b"\x30"  # how PKCS#12, and DER certificates, begin


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The ``TLS:`` section. A certificate comes from two PEM files or from one PKCS#12 file.

    Attributes:
        cert_file: ``CertFile``: PEM, the server's certificate first, then its issuers.
        key_file: ``KeyFile``: PEM; None if the key is in ``cert_file``.
        key_store: ``KeyStore``: PKCS#12 with key, certificate and issuers.
        key_store_password: ``KeyStorePassword``, of the key store or of an encrypted key in PEM;
            empty if there is none.
        client_ca_file: ``ClientCaFile``: PEM, whose certificates clients may have; None asks
            clients for no certificate.
        require_client_cert: ``RequireClientCert``: refuse clients that show no certificate.
    """

    cert_file: Path | None
    key_file: Path | None
    key_store: Path | None
    key_store_password: str
    client_ca_file: Path | None
    require_client_cert: bool


def build_ssl_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make a server's context: TLS 1.2 or newer, no compression, no renegotiation.

    Raises:
        ConfigError: The settings contradict each other.
        StartupError: A file is missing, unreadable, of another format, or its password is wrong;
            carries ``ExitCode.TLS``.
    """
    _check(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if settings.key_store is not None:
        _load_key_store(context, settings.key_store, settings.key_store_password)
    else:
        _load_pem(context, settings)
    if settings.client_ca_file is not None:
        _read_certificates(settings.client_ca_file, "TLS.ClientCaFile")
        try:
            context.load_verify_locations(cafile=settings.client_ca_file)
        except ssl.SSLError as exc:
            raise _refused_by_openssl("TLS.ClientCaFile", settings.client_ca_file, exc) from exc
        required = settings.require_client_cert
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def certificate_warnings(settings: TlsSettings, *, now: datetime) -> list[str]:
    """Say which certificates are expired, not yet valid, or will expire soon.

    That is not an error: a broker that does not start helps nobody renew a certificate.

    Args:
        settings: The files to look at.
        now: An aware moment.

    Raises:
        ConfigError, StartupError: As ``build_ssl_context``.
    """
    _check(settings)
    if settings.key_store is not None:
        key = "TLS.KeyStore"
        certificates = _read_key_store(settings.key_store, settings.key_store_password)[1][:1]
    else:
        assert settings.cert_file is not None
        key = "TLS.CertFile"
        certificates = _read_certificates(settings.cert_file, key)[:1]
    warnings = _validity_warnings(key, certificates, now)
    if settings.client_ca_file is not None:
        authorities = _read_certificates(settings.client_ca_file, "TLS.ClientCaFile")
        warnings += _validity_warnings("TLS.ClientCaFile", authorities, now)
    return warnings


class ReloadableTls:
    """A context whose files can be read again while connections come and go.

    Pass ``context`` to ``loop.create_server``; both asyncio and uvloop work. After ``reload`` new
    connections use the new certificate, client CA and session tickets; the old ones live on.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """Load the files.

        Raises:
            ConfigError, StartupError: As ``build_ssl_context``.
        """
        self._settings = settings
        self._switch = _SwitchingContext(ssl.PROTOCOL_TLS_SERVER)
        self._switch.current = build_ssl_context(settings)

    @property
    def context(self) -> ssl.SSLContext:
        """What listeners are created with, the same object for ever."""
        return self._switch

    def reload(self) -> None:
        """Read the files again and use them for connections from now on.

        Blocks, and may be called in a thread: what is parsed here holds the interpreter for a few
        milliseconds at most, except for a key store with an RSA key (docs/tls.md).

        Raises:
            StartupError: A file cannot be used; nothing has changed.
        """
        self._switch.current = build_ssl_context(self._settings)


class _SwitchingContext(ssl.SSLContext):
    """Makes every connection's TLS object with the context that is current.

    Event loops keep the context a listener was made with. OpenSSL could swap contexts in the SNI
    callback, but then session tickets of the first one stay good, and so do sessions of clients
    whose CA is no longer trusted.
    """

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Make the TLS object of one connection, as event loops do."""
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _check(settings: TlsSettings) -> None:
    if settings.key_store is None and settings.cert_file is None:
        raise ConfigError(
            "TLS has no certificate: set TLS.CertFile and TLS.KeyFile (PEM), "
            "or TLS.KeyStore and TLS.KeyStorePassword (PKCS#12)"
        )
    if settings.key_store is not None and settings.cert_file is not None:
        raise ConfigError("TLS.KeyStore and TLS.CertFile are both set; keep one of them")
    if settings.key_store is not None and settings.key_file is not None:
        raise ConfigError("TLS.KeyStore holds its own key; remove TLS.KeyFile")
    if settings.require_client_cert and settings.client_ca_file is None:
        raise ConfigError(
            "TLS.RequireClientCert needs TLS.ClientCaFile: the CA that issued the clients' "
            "certificates, in PEM"
        )


def _load_pem(context: ssl.SSLContext, settings: TlsSettings) -> None:
    assert settings.cert_file is not None
    certificate = _read_certificates(settings.cert_file, "TLS.CertFile")[0]
    key_path = settings.key_file or settings.cert_file
    password = settings.key_store_password.encode() or None
    key = _read_key(key_path, password, is_key_file=settings.key_file is not None)
    if not _belongs_to(key, certificate):
        raise _unusable(
            "TLS.KeyFile",
            key_path,
            f"it is not the key of the first certificate in {settings.cert_file.absolute()}; "
            "the server's own certificate has to come first, its issuers after it",
        )
    try:
        context.load_cert_chain(settings.cert_file, key_path, password)
    except ssl.SSLError as exc:
        raise _refused_by_openssl("TLS.CertFile", settings.cert_file, exc) from exc


def _load_key_store(context: ssl.SSLContext, path: Path, password: str) -> None:
    """Load a PKCS#12 file by way of a temporary PEM file, the only form ``ssl`` takes.

    Only its owner can read the file, it exists for a moment, and its key is encrypted with a
    password nobody knows, so that not even a crash leaves a usable key behind.
    """
    key, chain = _read_key_store(path, password)
    once = secrets.token_hex().encode()
    try:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(once))
        pem += b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        with tempfile.NamedTemporaryFile(prefix="monstermq-", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name, password=once)
    except ssl.SSLError as exc:
        raise _refused_by_openssl("TLS.KeyStore", path, exc) from exc
    except OSError as exc:
        why = exc.strerror
        hint = f"no temporary file could be written for it ({why}); set TMPDIR to a writable folder"
        raise _unusable("TLS.KeyStore", path, hint) from exc


def _read_key_store(path: Path, password: str) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    data = _read(path, "TLS.KeyStore")
    if not data.startswith(_DER_SEQUENCE):
        raise _unusable("TLS.KeyStore", path, "it is not PKCS#12; for PEM use TLS.CertFile")
    try:
        store = pkcs12.load_pkcs12(data, password.encode() or None)
    except (ValueError, UnsupportedAlgorithm) as exc:
        hint = (
            "TLS.KeyStorePassword is wrong, or the file is damaged, not PKCS#12, or encrypted in "
            "a way that is not supported any more; check the password, or make the file again as "
            "docs/tls.md tells"
        )
        raise _unusable("TLS.KeyStore", path, hint) from exc
    if store.key is None or store.cert is None:
        hint = "it holds no private key with its certificate; export both into it"
        raise _unusable("TLS.KeyStore", path, hint)
    others = [extra.certificate for extra in store.additional_certs]
    return store.key, _chain(store.cert.certificate, others)


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Bring a key store's certificates into the order TLS sends them, without unrelated ones."""
    chain = [leaf]
    remaining = list(others)
    while issuers := [other for other in remaining if other.subject == chain[-1].issuer]:
        chain.append(issuers[0])
        remaining.remove(issuers[0])
    return chain


def _read_certificates(path: Path, key: str) -> list[x509.Certificate]:
    data = _read(path, key)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        if data.startswith(_DER_SEQUENCE):
            hint = (
                "it is binary, and PEM is needed: a certificate is converted with 'openssl x509 "
                f"-inform DER -in {path} -out cert.pem', PKCS#12 belongs to TLS.KeyStore"
            )
        elif b"-----BEGIN CERTIFICATE-----" in data:
            hint = (
                "a certificate in it is damaged or cut off; copy the file again, or issue it anew"
            )
        else:
            hint = "it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
        raise _unusable(key, path, hint) from exc


def _read_key(path: Path, password: bytes | None, *, is_key_file: bool) -> PrivateKeyTypes:
    data = _read(path, "TLS.KeyFile")
    try:
        return _load_key(data, None)
    except TypeError:  # it is encrypted
        return _decrypted_key(path, data, password)
    except (ValueError, UnsupportedAlgorithm) as exc:
        if b"PRIVATE KEY-----" in data:
            hint = "the private key in it is damaged or of an unknown kind; copy it again"
            raise _unusable("TLS.KeyFile", path, hint) from exc
        if not is_key_file:
            raise ConfigError(
                f"TLS.CertFile {path.absolute()} holds no private key; set TLS.KeyFile"
            ) from exc
        hint = "it holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----"
        raise _unusable("TLS.KeyFile", path, hint) from exc


def _decrypted_key(path: Path, data: bytes, password: bytes | None) -> PrivateKeyTypes:
    plain = f"decrypt it with 'openssl pkey -in {path} -out plain.pem' and use that"
    if password is None:
        hint = f"its key is encrypted; set TLS.KeyStorePassword, or {plain}"
        raise _unusable("TLS.KeyFile", path, hint)
    try:
        return _load_key(data, password)
    except (ValueError, UnsupportedAlgorithm) as exc:
        hint = f"TLS.KeyStorePassword does not decrypt its key; correct it, or {plain}"
        raise _unusable("TLS.KeyFile", path, hint) from exc


def _load_key(data: bytes, password: bytes | None) -> PrivateKeyTypes:
    """Load a private key; whether an RSA key works is tried, not calculated.

    The calculation holds the interpreter for 30 ms with 2,048 bits and for 200 ms with 4,096, in
    whatever thread. A signature takes one to two.

    Raises:
        TypeError, ValueError, UnsupportedAlgorithm: It cannot be loaded, or does not work.
    """
    key = load_pem_private_key(data, password, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, rsa.RSAPrivateKey):
        sample, scheme = b"monstermq", (padding.PKCS1v15(), hashes.SHA256())
        try:
            key.public_key().verify(key.sign(sample, *scheme), sample, *scheme)
        except InvalidSignature as exc:
            raise ValueError("it does not sign") from exc
    return key


def _read(path: Path, key: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        where = "" if path.is_absolute() else "; relative paths begin at the working directory"
        raise _unusable(key, path, f"it cannot be read ({exc.strerror}){where}") from exc
    kind = _JAVA_KEYSTORES.get(data[:4])
    if kind is not None:
        hint = (
            f"it is a Java keystore ({kind}); convert it with 'keytool -importkeystore "
            f"-srckeystore {path} -destkeystore keystore.p12 -deststoretype PKCS12' "
            "and set TLS.KeyStore to keystore.p12"
        )
        raise _unusable(key, path, hint)
    return data


def _belongs_to(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    try:
        certified = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certified.public_bytes(*form)


def _validity_warnings(
    key: str, certificates: Sequence[x509.Certificate], now: datetime
) -> list[str]:
    warnings = []
    for certificate in certificates:
        name = certificate.subject.rfc4514_string() or f"serial {certificate.serial_number}"
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end:
            warnings.append(f"{key}: the certificate of {name} expired on {end:%Y-%m-%d}")
        elif now < start:
            warnings.append(f"{key}: the certificate of {name} is valid from {start:%Y-%m-%d} on")
        elif end - now < EXPIRY_WARNING:
            warnings.append(f"{key}: the certificate of {name} expires on {end:%Y-%m-%d}")
    return warnings


def _refused_by_openssl(key: str, path: Path, exc: ssl.SSLError) -> StartupError:
    reason = (exc.reason or "no reason given").replace("_", " ").lower()
    why = f"OpenSSL refuses it ({reason}); make a new one, docs/tls.md tells how"
    return _unusable(key, path, why)


def _unusable(key: str, path: Path, why: str) -> StartupError:
    return StartupError(f"{key} {path.absolute()} cannot be used: {why}", exit_code=ExitCode.TLS)
