"""TLS contexts: which files are accepted, and what is said about the others."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.certificates import CertificateAuthority, Identity

from monstermq_edge.network.tls import (
    TlsSettings,
    build_ssl_context,
    certificate_warnings,
)
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode

NOW = datetime.now(UTC)


def tls(
    *,
    cert: Path | None = None,
    key: Path | None = None,
    store: Path | None = None,
    password: str = "",
    ca: Path | None = None,
    required: bool = False,
) -> TlsSettings:
    return TlsSettings(cert, key, store, password, ca, required)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
def server(authority: CertificateAuthority) -> Identity:
    return authority.issue("server")


def refusal(settings: TlsSettings) -> str:
    """Build a context that must be refused; return what the operator is told."""
    with pytest.raises(StartupError) as caught:
        build_ssl_context(settings)
    assert caught.value.exit_code == ExitCode.TLS
    return str(caught.value)


class TestContext:
    def test_speaks_tls_1_2_at_least_and_neither_compresses_nor_renegotiates(
        self, server: Identity
    ) -> None:
        context = build_ssl_context(tls(cert=server.cert_file, key=server.key_file))
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.verify_mode is ssl.CERT_NONE

    @pytest.mark.parametrize(
        ("required", "mode"), [(False, ssl.CERT_OPTIONAL), (True, ssl.CERT_REQUIRED)]
    )
    def test_asks_for_client_certificates_if_there_is_a_ca(
        self,
        authority: CertificateAuthority,
        server: Identity,
        required: bool,
        mode: ssl.VerifyMode,
    ) -> None:
        settings = tls(
            cert=server.cert_file, key=server.key_file, ca=authority.cert_file, required=required
        )
        assert build_ssl_context(settings).verify_mode is mode

    def test_takes_certificate_and_key_from_one_file(self, server: Identity) -> None:
        build_ssl_context(tls(cert=server.combined_file()))

    @pytest.mark.parametrize("password", ["secret", "pässword"])
    def test_takes_an_encrypted_key_with_its_password(
        self, server: Identity, password: str
    ) -> None:
        key = server.encrypted_key_file(password)
        build_ssl_context(tls(cert=server.cert_file, key=key, password=password))
        build_ssl_context(tls(cert=server.cert_file, key=server.key_file, password=password))

    @pytest.mark.parametrize("password", ["secret", "", "pässword"])
    def test_takes_a_pkcs12_key_store_and_leaves_no_file_behind(
        self, server: Identity, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        build_ssl_context(tls(store=server.key_store(password), password=password))
        assert list(scratch.iterdir()) == []


class TestContradiction:
    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            (tls(), ["TLS.CertFile", "TLS.KeyFile", "TLS.KeyStore"]),
            (tls(cert=Path("a"), store=Path("b")), ["TLS.CertFile", "TLS.KeyStore"]),
            (tls(key=Path("a"), store=Path("b")), ["TLS.KeyFile", "TLS.KeyStore"]),
            (tls(cert=Path("a"), required=True), ["TLS.RequireClientCert", "TLS.ClientCaFile"]),
        ],
    )
    def test_names_the_keys(self, settings: TlsSettings, named: list[str]) -> None:
        for build in (build_ssl_context, lambda some: certificate_warnings(some, now=NOW)):
            with pytest.raises(ConfigError) as caught:
                build(settings)
            assert all(key in str(caught.value) for key in named)

    def test_of_a_certificate_without_a_key_names_the_key_file(self, server: Identity) -> None:
        with pytest.raises(ConfigError, match=r"set TLS\.KeyFile"):
            build_ssl_context(tls(cert=server.cert_file))


class TestUnusableFile:
    @pytest.mark.parametrize(
        ("key", "make"),
        [
            ("TLS.CertFile", lambda path, server: tls(cert=path, key=server.key_file)),
            ("TLS.KeyFile", lambda path, server: tls(cert=server.cert_file, key=path)),
            ("TLS.KeyStore", lambda path, _: tls(store=path)),
            (
                "TLS.ClientCaFile",
                lambda path, server: tls(cert=server.cert_file, key=server.key_file, ca=path),
            ),
        ],
    )
    def test_is_named_with_its_key_whatever_is_wrong(
        self,
        server: Identity,
        tmp_path: Path,
        key: str,
        make: Callable[[Path, Identity], TlsSettings],
    ) -> None:
        missing, garbage, folder = tmp_path / "missing", tmp_path / "garbage", tmp_path
        garbage.write_bytes(b"\xff\x00 garbage")
        damaged = tmp_path / "damaged"
        damaged.write_bytes(server.cert_file.read_bytes()[:200])
        empty = tmp_path / "empty"
        empty.write_bytes(b"")
        for path in (missing, garbage, folder, damaged, empty):
            told = refusal(make(path, server))
            assert f"{key} {path} " in told
        assert "No such file" in refusal(make(missing, server))

    @pytest.mark.parametrize("magic", [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"])
    def test_of_java_is_recognized_and_the_conversion_named(
        self, tmp_path: Path, magic: bytes
    ) -> None:
        path = tmp_path / "server.jks"
        path.write_bytes(magic + b"\x00\x00\x00\x02")
        told = refusal(tls(store=path, password="secret"))
        assert f"keytool -importkeystore -srckeystore {path}" in told
        assert "PKCS12" in told

    def test_with_a_wrong_password_says_so(self, server: Identity) -> None:
        store = server.key_store("right")
        for password in ("wrong", ""):
            assert "TLS.KeyStorePassword" in refusal(tls(store=store, password=password))

    def test_with_the_key_of_another_certificate_says_so(
        self, authority: CertificateAuthority, server: Identity
    ) -> None:
        other = authority.issue("other")
        told = refusal(tls(cert=server.cert_file, key=other.key_file))
        assert "not the key of the first certificate" in told

    def test_with_an_encrypted_key_names_the_password_and_the_command_to_decrypt_it(
        self, server: Identity
    ) -> None:
        key = server.encrypted_key_file("secret")
        for password, hint in (
            ("", "its key is encrypted; set TLS.KeyStorePassword, or decrypt it"),
            ("wrong", "TLS.KeyStorePassword does not decrypt its key"),
        ):
            told = refusal(tls(cert=server.cert_file, key=key, password=password))
            assert hint in told
            assert f"'openssl pkey -in {key} -out plain.pem'" in told

    def test_is_told_in_our_words_with_its_whole_path_and_what_to_do(
        self, server: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        cut, text = Path("cut.pem"), Path("text.pem")
        cut.write_bytes(server.cert_file.read_bytes()[:200])
        cut_key = Path("cut.key.pem")
        cut_key.write_bytes(server.key_file.read_bytes()[:100])
        text.write_text("no certificate")
        told = {
            "damaged or cut off; copy": refusal(tls(cert=cut, key=server.key_file)),
            "begins with -----BEGIN CERTIFICATE-----": refusal(tls(cert=text, key=server.key_file)),
            "the private key in it is damaged": refusal(tls(cert=server.cert_file, key=cut_key)),
            "begins with -----BEGIN PRIVATE KEY-----": refusal(
                tls(cert=server.cert_file, key=text)
            ),
            "relative paths begin at the working directory": refusal(tls(cert=Path("missing.pem"))),
        }
        for hint, message in told.items():
            assert hint in message
            assert f"{tmp_path}/" in message
            assert "http" not in message
            assert "Malformed" not in message

    def test_with_an_rsa_key_that_does_not_sign_is_told(
        self, server: Identity, tmp_path: Path
    ) -> None:
        """Its parts are not checked by calculation, which would hold everybody up in a reload."""
        numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
        damaged = rsa.RSAPrivateNumbers(
            p=numbers.p,
            q=numbers.q,
            d=numbers.d ^ 1 << 99,
            dmp1=numbers.dmp1 ^ 1 << 99,
            dmq1=numbers.dmq1,
            iqmp=numbers.iqmp,
            public_numbers=numbers.public_numbers,
        ).private_key(unsafe_skip_rsa_key_validation=True)
        key = tmp_path / "damaged.pem"
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key.write_bytes(damaged.private_bytes(*form))
        told = refusal(tls(cert=server.cert_file, key=key))
        assert "the private key in it is damaged" in told

    def test_that_openssl_refuses_is_told_without_its_source_lines(self, server: Identity) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        weak = (
            x509.CertificateBuilder()
            .subject_name(server.certificate.subject)
            .issuer_name(server.certificate.subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        server.cert_file.write_bytes(weak.public_bytes(Encoding.PEM))
        server.key_file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        told = refusal(tls(cert=server.cert_file, key=server.key_file))
        assert "OpenSSL refuses it (ee key too small); make a new one" in told

    def test_in_binary_names_the_conversion(self, server: Identity) -> None:
        told = refusal(tls(cert=server.key_store("secret"), key=server.key_file))
        assert "TLS.KeyStore" in told
        assert "-inform DER" in told

    def test_for_which_no_temporary_file_can_be_made_names_tmpdir(
        self, server: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        assert "TMPDIR" in refusal(tls(store=server.key_store("secret"), password="secret"))


class TestWarnings:
    def test_are_none_for_certificates_with_time_to_live(
        self, authority: CertificateAuthority, server: Identity
    ) -> None:
        settings = tls(cert=server.cert_file, key=server.key_file, ca=authority.cert_file)
        assert certificate_warnings(settings, now=NOW) == []

    def test_tell_of_an_expired_certificate_which_still_loads(
        self, authority: CertificateAuthority
    ) -> None:
        old = authority.issue("old", not_after=NOW - timedelta(days=2))
        store = tls(store=old.key_store("secret"), password="secret")
        for settings, key in (
            (tls(cert=old.cert_file, key=old.key_file), "TLS.CertFile"),
            (store, "TLS.KeyStore"),
        ):
            build_ssl_context(settings)
            (warning,) = certificate_warnings(settings, now=NOW)
            assert warning.startswith(f"{key}: the certificate of CN=old expired on")

    def test_tell_of_a_certificate_that_will_expire_or_is_not_valid_yet(
        self, server: Identity
    ) -> None:
        settings = tls(cert=server.cert_file, key=server.key_file)
        end = server.certificate.not_valid_after_utc
        (soon,) = certificate_warnings(settings, now=end - timedelta(days=13))
        (early,) = certificate_warnings(settings, now=end - timedelta(days=400))
        assert "expires on" in soon
        assert "is valid from" in early

    def test_tell_of_an_expired_client_ca(
        self, authority: CertificateAuthority, server: Identity
    ) -> None:
        settings = tls(cert=server.cert_file, key=server.key_file, ca=authority.cert_file)
        later = NOW + timedelta(days=1000)
        _, warning = certificate_warnings(settings, now=later)
        assert warning.startswith("TLS.ClientCaFile: the certificate of CN=ca expired")
