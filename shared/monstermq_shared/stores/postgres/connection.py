"""One connection to a PostgreSQL server that takes writes, with our session's settings.

The settings are made by one statement after the log-in, because PgBouncer refuses most of them
among the start-up parameters. So ``RESET ALL`` would undo them: asyncpg's own pool, which sends it,
is not for these connections.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from monstermq_shared.config.postgres_urls import (
    ConnectionSettings,
    Host,
    SslMode,
    TlsSettings,
    describe,
)
from monstermq_shared.errors import StoreError, StoreUnavailable
from monstermq_shared.stores.postgres.errors import StoreUnfit, TlsProblem, translated
from monstermq_shared.stores.postgres.pooling import check_pooling

if TYPE_CHECKING:
    # Generic for the type checker only; the class itself takes no parameter.
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

SERVER_VERSION_MIN = 12
"""Generated columns and everything else we use are there; tests run with Debian's server, 15."""

STATEMENT_GRACE_S = 5.0
"""How much longer we wait for an answer than the server may take: it is to be the first to end."""

IDLE_IN_TRANSACTION_S = 60
"""After which the server ends a transaction of a broker that stands still, with its locks."""

SHARED_IDLE_IN_TRANSACTION_S = 10
"""The same where others wait to take its work over: one that lives is idle for milliseconds."""

# A peer that vanished without a word is noticed after half a minute, on either side: on the
# server's that ends the session and its advisory lock, so that the next broker may start.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 15, 5, 3
UNACKNOWLEDGED_MS = 30_000

_SESSION = {
    # At "error" the server would not tell that nobody has confirmed a commit, see Writer.commit.
    "client_min_messages": "warning",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
    # The role's would end our connection whenever nobody publishes, and the lock with it.
    "idle_session_timeout": "0",
    # Our statements are short, and the compiler would cost more than it saves.
    "jit": "off",
    "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
    "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
    "tcp_keepalives_count": str(KEEPALIVE_COUNT),
    "tcp_user_timeout": str(UNACKNOWLEDGED_MS),
    "transaction_timeout": "0",
}
"""Those that a server is too old for are left out."""

_SET = """
SELECT set_config(name, value, false)
FROM unnest($1::text[], $2::text[]) AS setting (name, value)
WHERE name IN (SELECT name FROM pg_settings)
"""

_FACTS = """
SELECT pg_is_in_recovery() AS standby,
       current_setting('server_version_num')::int / 10000 AS version,
       current_setting('server_encoding') AS encoding,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('search_path') AS search_path,
       current_schema() AS schema
"""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the caller wants of a connection."""

    statement_timeout_s: float
    durable: bool
    idle_in_transaction_s: float


async def connect(
    settings: ConnectionSettings,
    *,
    statement_timeout_s: float,
    durable: bool = True,
    idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
) -> Connection:
    """Connect to the first of the hosts that takes writes.

    A connection that raised is to be terminated: what it was doing may still go on.

    Args:
        settings: Where, as whom, and how.
        statement_timeout_s: How long the server may work on one statement. We wait a little longer
            for its answer, or ``settings.socket_timeout_s`` if that is given.
        durable: Whether what is committed must survive the server's crash. If the server is set to
            ``synchronous_commit = off``, this session has it on; its other values stay. What the
            server is set to later does not count.
        idle_in_transaction_s: After which the server ends a transaction in which nothing is asked.

    Raises:
        StoreUnavailable: No host can be reached, lets us in and takes writes now; says for each
            why, and what to do.
        StoreUnfit: A server that can never do: encoding, version, schema, pooler.
    """
    wish = _Wish(statement_timeout_s, durable, idle_in_transaction_s)
    failures: list[StoreError] = []
    for host in settings.hosts:
        try:
            with translated(f"{host}/{settings.database}"):
                return await _connect_to(host, settings, wish)
        except StoreError as exc:
            failures.append(exc)
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(map(str, failures))
    kinds = set(map(type, failures))
    kind = kinds.pop() if len(kinds) == 1 else StoreUnavailable
    raise kind(
        f"PostgreSQL at {describe(settings)}: none of the {len(failures)} hosts can be used: "
        f"{reasons}"
    ) from failures[-1].__cause__


async def _connect_to(host: Host, settings: ConnectionSettings, wish: _Wish) -> Connection:
    connection = await _log_in(host, settings, wish)
    where = f"{host}/{settings.database}"
    try:
        await check_pooling(
            connection,
            where,
            lambda: _log_in(host, settings, wish),
            timeout_s=settings.connect_timeout_s,
        )
        async with asyncio.timeout(settings.connect_timeout_s):
            await _prepare(connection, f"PostgreSQL at {where}", settings, wish)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _log_in(host: Host, settings: ConnectionSettings, wish: _Wish) -> Connection:
    # From the file at each connection, because certificates are renewed.
    tls = await asyncio.to_thread(tls_of, settings.tls)
    server_settings = {"application_name": settings.application_name}
    if settings.options:
        server_settings["options"] = settings.options
    connection: Connection = await asyncpg.connect(
        host=host.name,
        port=host.port,
        user=settings.user,
        password=settings.password,
        database=settings.database,
        ssl=tls,
        timeout=settings.connect_timeout_s,
        command_timeout=settings.socket_timeout_s or wish.statement_timeout_s + STATEMENT_GRACE_S,
        server_settings=server_settings,
        connection_class=_KeptConnection,
    )
    return connection


async def _prepare(
    connection: Connection, where: str, settings: ConnectionSettings, wish: _Wish
) -> None:
    """Make our session's settings and check the server."""
    wanted = {
        **_SESSION,
        "statement_timeout": f"{int(wish.statement_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{int(wish.idle_in_transaction_s * 1000)}ms",
    }
    if settings.search_path:
        wanted["search_path"] = settings.search_path
    await _set(connection, wanted)
    facts = await connection.fetchrow(_FACTS)
    assert facts is not None
    if facts["standby"]:
        raise StoreUnavailable(
            f"{where}: it is a standby, which takes no writes; name all servers in Postgres.Url, "
            "the broker finds the primary"
        )
    unfit = _unfitness(facts)
    if unfit is not None:
        raise StoreUnfit(f"{where}: {unfit}")
    if wish.durable:
        # Set in any case, so that it stays when somebody sets the running server to "off".
        found = facts["synchronous_commit"]
        await _set(connection, {"synchronous_commit": "on" if found == "off" else found})


def _unfitness(facts: asyncpg.Record) -> str | None:
    """Return why the server can never serve us, with the fix."""
    if facts["version"] < SERVER_VERSION_MIN:
        return f"version {facts['version']} is too old; use {SERVER_VERSION_MIN} or newer"
    if facts["encoding"] != "UTF8":
        return (
            f"its encoding is {facts['encoding']}, which cannot hold every topic and client id; "
            "make another with CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'"
        )
    if facts["schema"] is None:
        return (
            f"no schema of search_path ({facts['search_path']}) exists for this role; make one "
            "with CREATE SCHEMA, or change currentSchema in Postgres.Url"
        )
    return None


async def _set(connection: Connection, wanted: dict[str, str]) -> None:
    await connection.execute(_SET, list(wanted), list(wanted.values()))


def tls_of(settings: TlsSettings) -> ssl.SSLContext | Literal["allow", "prefer"] | Literal[False]:
    """Return how the driver is told about TLS.

    Raises:
        TlsProblem: A certificate, key or CA file cannot be read.
    """
    match settings.mode:
        case SslMode.DISABLE:
            return False
        case SslMode.ALLOW:
            return "allow"
        case SslMode.PREFER:
            return "prefer"
        case _:
            return _context(settings)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.mode is SslMode.VERIFY_FULL
    path = settings.ca_file
    try:
        if settings.ca_file:  # then libpq verifies with sslmode=require too
            context.load_verify_locations(settings.ca_file)
        elif settings.mode is SslMode.VERIFY_FULL:
            context.load_default_certs()
        else:
            context.verify_mode = ssl.CERT_NONE
        path = settings.cert_file
        if settings.cert_file:
            context.load_cert_chain(
                settings.cert_file, settings.key_file or None, lambda: settings.key_password
            )
    except (OSError, ValueError) as exc:
        raise TlsProblem(
            f"{path}: cannot be used for TLS ({exc}); sslrootcert, sslcert and sslkey in "
            "Postgres.Url name PEM files that the broker may read, and sslpassword is the key's; a "
            "DER key becomes PEM with: openssl pkcs8 -nocrypt -inform DER -in key.pk8 -out key.pem"
        ) from exc
    return context


class _KeptConnection(Connection):
    """A connection whose socket notices that the server has vanished."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - the driver's own types, all private
        super().__init__(*args)
        _, transport, *_ = args
        keep_alive(transport.get_extra_info("socket"))


def keep_alive(sock: socket.socket) -> None:
    """Make a socket notice a peer that has vanished without a word."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
        "TCP_KEEPCNT": KEEPALIVE_COUNT,
        "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS,
    }
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
