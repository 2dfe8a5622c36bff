"""PostgreSQL addresses: the JDBC driver's URLs and PostgreSQL's own, read into one value.

A URL may hold a password, also one whose special characters nobody escaped, so that any part of
the URL may be a piece of it. Errors therefore name places and parameters, never what is written
there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote_to_bytes

from monstermq_shared.config.postgres_parameters import IGNORED, PARAMETERS, canonical, suggested
from monstermq_shared.errors import ConfigError

PORT = 5432
HOSTS_MAX = 16
URL_LENGTH_MAX = 16_384
TIMEOUT_S_MAX = 3_600.0
CONNECT_TIMEOUT_S = 10.0
APPLICATION_NAME = "monstermq"

_JDBC, _PLAIN = "jdbc:postgresql:", ("postgresql://", "postgres://")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[^\s\x00-\x1f\x7f/:\[\]@?#,\\]{1,255}")
_SECRET = {"password", "sslpassword"}
# What the original's driver and libpq call a server that takes writes. Any other would be of no
# use to a broker.
_PRIMARY = {"any", "primary", "master", "preferprimary", "read-write"}
_ESCAPE_HINT = (
    "a user or password with one of / ? # @ : & % in it is written with escapes (%2F for /), or "
    "stands in the keys User and Pass"
)


class SslMode(StrEnum):
    """How much TLS is asked for, as libpq and the JDBC driver call it."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"

    @property
    def is_required(self) -> bool:
        """Whether a connection without TLS is refused."""
        return self in {SslMode.REQUIRE, SslMode.VERIFY_CA, SslMode.VERIFY_FULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How the connection is encrypted, and who is trusted.

    Attributes:
        ca_file: The CA file; empty for the system's authorities, which VERIFY_FULL alone may use.
        cert_file: The client's certificate (PEM); empty for none.
        key_file: Its key (PEM); empty if it is in ``cert_file``.
        key_password: The key's password.
    """

    mode: SslMode = SslMode.PREFER
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    key_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Host:
    """Where one server listens: a name, an address, or the folder of a Unix socket."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """Everything that says how to connect; durations in seconds.

    Attributes:
        hosts: Tried in this order; the first that takes writes is used.
        password: Empty where the server asks for none.
        search_path: The schemas in which tables are made and found, as the server reads the
            setting; empty for the server's own.
        connect_timeout_s: For each host.
        socket_timeout_s: After which an answer counts as lost; None for the caller's default.
        options: Command-line options for the server's process, as libpq passes them.
        ignored: JDBC parameters that were given and mean nothing here.
    """

    hosts: tuple[Host, ...]
    database: str
    user: str
    password: str = field(repr=False)
    tls: TlsSettings = TlsSettings()
    search_path: str = ""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    socket_timeout_s: float | None = None
    application_name: str = APPLICATION_NAME
    options: str = ""
    ignored: tuple[str, ...] = ()


def describe(settings: ConnectionSettings) -> str:
    """Return what messages call the database: ``host:port/database``."""
    return f"{','.join(map(str, settings.hosts))}/{settings.database}"


def parse_url(
    url: str, *, user: str = "", password: str = "", section: str = "Postgres"
) -> ConnectionSettings:
    """Read a URL with the keys that stand beside it.

    What the URL says counts before the keys, as in the JDBC driver.

    Args:
        url: ``jdbc:postgresql://...``, ``postgresql://...`` or ``postgres://...``.
        user: The key User.
        password: The key Pass.
        section: The configuration's section, for messages.

    Raises:
        ConfigError: It cannot be read, or contradicts itself. The message shows no password.
    """
    return _Reader(section).read(url, user, password)


class _Reader:
    """Reads one URL."""

    def __init__(self, section: str) -> None:
        self._section = section
        self._decode: Callable[[str], str] = _decode_plain

    def read(self, url: str, user: str, password: str) -> ConnectionSettings:
        if len(url) > URL_LENGTH_MAX or any(ord(c) < 0x20 or c == "\x7f" for c in url):
            raise self._error("is too long, or has control characters in it")
        address, _, query = self._without_scheme(url.strip()).partition("?")
        authority, database = self._split(address)
        given, ignored = self._parameters(query)
        userinfo, at, hosts = authority.rpartition("@")
        url_user, colon, url_password = userinfo.partition(":")
        if at and url_user:
            user = self._text(url_user, "user")
        if colon:
            password = self._text(url_password, "password")
        user = given.get("user") or user
        if not user:
            raise self._error(f"names no user: write it there, or set {self._section}.User")
        return ConnectionSettings(
            hosts=self._hosts(hosts, given),
            database=given.get("dbname") or self._text(database, "database") or user,
            user=user,
            password=given.get("password", password),
            search_path=given.get("currentSchema", ""),
            connect_timeout_s=self._seconds("connectTimeout", given) or CONNECT_TIMEOUT_S,
            socket_timeout_s=self._seconds("socketTimeout", given),
            application_name=given.get("ApplicationName") or APPLICATION_NAME,
            options=given.get("options", ""),
            ignored=tuple(ignored),
            tls=self._tls(given),
        )

    def _without_scheme(self, url: str) -> str:
        folded = url.casefold()
        if folded.startswith(_JDBC):
            # The JDBC driver decodes as forms do, with + for a space; libpq does not.
            self._decode = _decode_jdbc
            return url[len(_JDBC) :]
        for scheme in _PLAIN:
            if folded.startswith(scheme):
                return url[len(scheme) - 2 :]
        raise self._error(
            "does not begin with jdbc:postgresql:, postgresql:// or postgres://; write for "
            "example jdbc:postgresql://localhost:5432/monster"
        )

    def _split(self, address: str) -> tuple[str, str]:
        """Split what stands before the parameters into (users and hosts, database)."""
        if not address.startswith("//"):  # the JDBC driver's short forms: localhost
            return "", address.removeprefix("/")
        authority, _, database = address[2:].partition("/")
        if "/" in database or "#" in address:
            raise self._error(f"has a / or # that does not belong there; {_ESCAPE_HINT}")
        return authority, database

    def _parameters(self, query: str) -> tuple[dict[str, str], list[str]]:
        """Return (name -> value of what we know, names of what means nothing here)."""
        given: dict[str, str] = {}
        ignored: list[str] = []
        for number, pair in enumerate(filter(None, query.split("&")), start=1):
            written, equals, text = pair.partition("=")
            name = canonical(written)
            if name in IGNORED:
                ignored.append(name)
                continue
            if name not in PARAMETERS:
                # After an @ or a password, what looks like a name may be the rest of it.
                secret = "@" in query or bool(_SECRET & given.keys())
                raise self._unknown(written, number, secret=secret)
            # The JDBC driver takes a name alone for true.
            value = self._text(text, f"parameter {name}") if equals else "true"
            if given.setdefault(name, value) != value:
                raise self._error(f"has the parameter {name} twice")
        return given, ignored

    def _unknown(self, written: str, number: int, *, secret: bool) -> ConfigError:
        meant = suggested(written)
        if meant is not None:
            return self._error(f"has an unknown parameter; did you mean {meant}?")
        if secret or not re.fullmatch("[A-Za-z][A-Za-z0-9_.-]{1,40}", written):
            return self._error(f"has an unknown parameter, number {number}; {_ESCAPE_HINT}")
        return self._error(
            f"has the unknown parameter {written}; there are {', '.join(sorted(PARAMETERS))}"
        )

    def _hosts(self, listed: str, given: dict[str, str]) -> tuple[Host, ...]:
        """Return the servers, from ``host:port,...`` or from the parameters host and port."""
        self._check_target(given)
        entries = listed.split(",")
        if len(entries) > HOSTS_MAX:
            raise self._error(f"names more than {HOSTS_MAX} hosts")
        hosts = [self._host(entry, number) for number, entry in enumerate(entries, start=1)]
        port = self._port(given["port"], 1) if "port" in given else hosts[0].port
        if given.get("host"):
            if len(hosts) > 1 or "," in given["host"]:
                raise self._error("has the parameter host, which takes one, beside several hosts")
            return (Host(self._host_name(given["host"], 1), port),)
        return tuple(Host(host.name, port) for host in hosts) if "port" in given else tuple(hosts)

    def _host(self, entry: str, number: int) -> Host:
        if entry.startswith("["):
            name, bracket, rest = entry[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise self._error(
                    f"has a host (number {number}) with a bracket too many or too few"
                )
            port = rest.removeprefix(":")
            return Host(self._ipv6(self._text(name, "host"), number), self._port(port, number))
        if entry.count(":") > 1:
            raise self._error(
                f"has a host (number {number}) with several colons: an IPv6 address stands in "
                f"brackets, [::1]:5432; {_ESCAPE_HINT}"
            )
        written, _, port = entry.partition(":")
        name = self._host_name(self._text(written, "host"), number) if written else "localhost"
        return Host(name, self._port(port, number))

    def _host_name(self, name: str, number: int) -> str:
        if not name.startswith("/") and not _HOST.fullmatch(name):
            raise self._error(f"has a host (number {number}) that is no name; {_ESCAPE_HINT}")
        return name

    def _ipv6(self, name: str, number: int) -> str:
        try:
            IPv6Address(name)
        except AddressValueError:
            raise self._error(f"has in brackets (host {number}) what is no IPv6 address") from None
        return name

    def _port(self, text: str, number: int) -> int:
        if not text:
            return PORT
        if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
            raise self._error(
                f"has a port (host {number}) that is no number from 1 to 65535; {_ESCAPE_HINT}"
            )
        return int(text)

    def _check_target(self, given: dict[str, str]) -> None:
        for name in ("targetServerType", "target_session_attrs"):
            if given.get(name, "any").casefold() not in _PRIMARY:
                raise self._error(
                    f"asks with {name} for a server that may be a standby, which takes no writes; "
                    "write primary, or leave it out"
                )

    def _seconds(self, name: str, given: dict[str, str]) -> float | None:
        text = given.get(name)
        if text is None:
            return None
        if not re.fullmatch("[0-9]{1,4}", text) or not 0 < int(text) <= TIMEOUT_S_MAX:
            raise self._error(
                f"has a {name} that is no whole number of seconds from 1 to {TIMEOUT_S_MAX:.0f}"
            )
        return float(text)

    def _tls(self, given: dict[str, str]) -> TlsSettings:
        mode = self._ssl_mode(given)
        files = {name: given.get(name, "") for name in ("sslrootcert", "sslcert", "sslkey")}
        if files["sslrootcert"] == "system":  # libpq's name for the system's authorities
            if mode is not SslMode.VERIFY_FULL:
                raise self._error("has sslrootcert=system, which needs sslmode=verify-full")
            files["sslrootcert"] = ""
        if any(files.values()) and not mode.is_required:
            raise self._error(
                f"names {' and '.join(name for name, path in files.items() if path)}, which "
                f"sslmode={mode} does not use; write sslmode=verify-full"
            )
        if files["sslkey"] and not files["sslcert"]:
            raise self._error("has sslkey without sslcert: a key needs its certificate")
        if mode is SslMode.VERIFY_CA and not files["sslrootcert"]:
            raise self._error(
                "has sslmode=verify-ca without sslrootcert: any public authority would do; name "
                "the CA file, or write verify-full"
            )
        return TlsSettings(
            mode=mode,
            ca_file=files["sslrootcert"],
            cert_file=files["sslcert"],
            key_file=files["sslkey"],
            key_password=given.get("sslpassword", ""),
        )

    def _ssl_mode(self, given: dict[str, str]) -> SslMode:
        if "sslmode" not in given:
            # The JDBC driver's ssl=true verifies everything.
            ssl = given.get("ssl", "false").casefold() in {"true", ""}
            return SslMode.VERIFY_FULL if ssl else SslMode.PREFER
        try:
            return SslMode(given["sslmode"].casefold())
        except ValueError:
            raise self._error(f"has an unknown sslmode; there are {', '.join(SslMode)}") from None

    def _text(self, written: str, what: str) -> str:
        """Decode one part."""
        if _BAD_ESCAPE.search(written):
            raise self._error(f"has in its {what} a % that begins no escape; % itself is %25")
        try:
            text = self._decode(written)
        except UnicodeDecodeError:
            raise self._error(f"has escapes in its {what} that are not UTF-8") from None
        if "\0" in text:
            raise self._error(f"has a NUL character in its {what}")
        return text

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self._section}.Url {problem}")


def _decode_plain(written: str) -> str:
    return unquote_to_bytes(written).decode("utf-8")


def _decode_jdbc(written: str) -> str:
    return _decode_plain(written.replace("+", "%20"))
