"""PostgreSQL's errors in our words: the one place that names the driver's classes and SQLSTATEs."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, TypeAlias

import asyncpg

from monstermq_shared.errors import (
    StartupError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.lost_writes import is_lost_write

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""Everything the driver raises because of the server, the network, or what it was given."""

_SAID_MAX = 300


class StoreUnfit(StoreError):
    """The server answers, and can never be ours as it is: its encoding, version or pooler."""


class TlsProblem(StoreUnavailable):
    """A certificate, key or CA file cannot be read, or the server's certificate is not trusted."""


class _Kind(Enum):
    UNAVAILABLE = auto()
    FULL = auto()
    DAMAGED = auto()
    REFUSED = auto()


_LOST = "the connection was lost"
_ALTERED = (
    "a table is not as the broker made it: somebody else has altered or dropped it; undo that, or "
    "go back to a backup"
)
_GONE = (
    "a table of the broker is not there: somebody has dropped it, or another database has this "
    "address now; go back to a backup; in an empty database the next start begins anew"
)
_NO_ENTRY = (
    "it does not let us in; set Postgres.User and Postgres.Pass (or those in Postgres.Url) to a "
    "role that may log in and that pg_hba.conf admits"
)
_NO_WRITES = (
    "it takes no writes, as a standby does; name all servers in Postgres.Url, the broker finds the "
    "primary"
)
_NO_RIGHTS = (
    "the role lacks a right; grant it CREATE and USAGE on the schema, and make it the owner of the "
    "broker's tables there"
)
_STOPPING = "it is stopping or starting"

# SQLSTATE -> kind and sentence. What is not here goes by its first two characters.
_STATES: dict[str, tuple[_Kind, str]] = {
    "25006": (_Kind.UNAVAILABLE, _NO_WRITES),
    "25P03": (_Kind.UNAVAILABLE, "a transaction stood still for too long and was ended"),
    "25P04": (_Kind.UNAVAILABLE, "a transaction took too long and was ended"),
    "28000": (_Kind.UNAVAILABLE, _NO_ENTRY),
    "28P01": (_Kind.UNAVAILABLE, f"the user or the password is wrong: {_NO_ENTRY}"),
    "3D000": (
        _Kind.UNAVAILABLE,
        "the database does not exist; make it with CREATE DATABASE, or name another one in "
        "Postgres.Url",
    ),
    "3F000": (_Kind.DAMAGED, _ALTERED),
    "08P01": (_Kind.UNAVAILABLE, "it, or a pooler before it, refuses what was sent"),
    "23502": (_Kind.DAMAGED, _ALTERED),
    "23503": (_Kind.DAMAGED, _ALTERED),
    "23514": (_Kind.DAMAGED, _ALTERED),
    "42501": (_Kind.UNAVAILABLE, _NO_RIGHTS),
    "42703": (_Kind.DAMAGED, _ALTERED),
    "42804": (_Kind.DAMAGED, _ALTERED),
    "42809": (_Kind.DAMAGED, _ALTERED),
    "42883": (_Kind.DAMAGED, _ALTERED),
    "42P01": (_Kind.DAMAGED, _GONE),
    "42P10": (_Kind.DAMAGED, _ALTERED),
    "428C9": (_Kind.DAMAGED, _ALTERED),
    "53100": (_Kind.FULL, "its disk is full; free some space"),
    "53200": (_Kind.UNAVAILABLE, "it has no memory left"),
    "53300": (
        _Kind.UNAVAILABLE,
        "it has no connection free; raise its max_connections or the role's CONNECTION LIMIT, or "
        "end other clients",
    ),
    "55P03": (_Kind.UNAVAILABLE, "another session holds a lock on the rows"),
    "57014": (_Kind.UNAVAILABLE, "a statement took too long, or somebody cancelled it"),
    "57P01": (_Kind.UNAVAILABLE, "it is stopping, or an administrator ended the connection"),
    "57P02": (_Kind.UNAVAILABLE, "one of its processes crashed, and it recovers"),
    "57P03": (_Kind.UNAVAILABLE, _STOPPING),
    "57P04": (_Kind.UNAVAILABLE, "the database was dropped"),
    "57P05": (_Kind.UNAVAILABLE, "it has ended an idle connection"),
    "58P01": (_Kind.DAMAGED, "one of its files is missing; go back to a backup"),
    "58P02": (_Kind.DAMAGED, "one of its files is double; go back to a backup"),
    "XX001": (_Kind.DAMAGED, "its data is corrupt; go back to a backup"),
    "XX002": (_Kind.DAMAGED, "an index is corrupt; REINDEX it, or go back to a backup"),
}
_CLASSES: dict[str, tuple[_Kind, str]] = {
    "08": (_Kind.UNAVAILABLE, _LOST),
    "40": (_Kind.UNAVAILABLE, "another session came in between"),
    "53": (_Kind.UNAVAILABLE, "it lacks resources"),
    "55": (_Kind.UNAVAILABLE, "something it needs is in use"),
    "57": (_Kind.UNAVAILABLE, _STOPPING),
    "58": (_Kind.UNAVAILABLE, "its operating system reports an error"),
}
_OF_TABLES = frozenset({"22", "23", "42"})
_REFUSED = (_Kind.REFUSED, "it refuses a statement")

_EXIT_CODES = {
    "25006": ExitCode.STORE_UNWRITABLE,
    "42501": ExitCode.STORE_UNWRITABLE,
    "53100": ExitCode.STORE_FULL,
}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise the driver's errors as ours; the driver's own is the ``__cause__``.

    Args:
        where: The database, as ``describe`` calls it.

    Raises:
        StoreUnavailable: It cannot be reached or cannot do it now. If a COMMIT was on its way, its
            outcome is unknown.
        StoreDamaged: Its data is corrupt, or somebody has altered a table.
        StoreError: It refuses a statement or a value, and would do so again.
    """
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise store_error(exc, where) from exc
    except RuntimeError as exc:
        if not is_lost_write(exc):
            raise
        raise store_error(exc, where) from exc


def forget_lost_waits(loop: asyncio.AbstractEventLoop) -> None:
    """Keep what the driver leaves behind when a connection is lost out of the log.

    uvloop refuses a write to a connection that has just been lost. Whoever wrote is told; the
    future that the driver had made for the answer fails as well, and nobody reads it.
    """
    earlier = loop.get_exception_handler()
    if isinstance(earlier, _LostWaits):
        return
    loop.set_exception_handler(_LostWaits(earlier))


class _LostWaits:
    """An event loop's handler of errors that passes over those."""

    def __init__(self, earlier: "_Handler | None") -> None:
        self._earlier = earlier

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError) and (
            "never retrieved" in context.get("message", "")
        ):
            return
        if self._earlier is None:
            loop.default_exception_handler(context)
        else:
            self._earlier(loop, context)


_Handler: TypeAlias = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


@contextmanager
def translated_at_start(where: str) -> Iterator[None]:
    """Like ``translated``, but what may pass later is a ``StartupError`` with its exit code.

    Raises:
        StartupError: The server cannot be reached, does not let us in, or cannot be used.
        StoreDamaged, StoreError: As in ``translated``.
    """
    try:
        with translated(where):
            yield
    except StoreUnfit as exc:
        raise StartupError(str(exc), exit_code=ExitCode.CONFIG) from exc
    except TlsProblem as exc:
        raise StartupError(str(exc), exit_code=ExitCode.TLS) from exc
    except StoreUnavailable as exc:
        state = getattr(exc.__cause__, "sqlstate", None)
        exit_code = _EXIT_CODES.get(state or "", ExitCode.STORE_UNREACHABLE)
        raise StartupError(str(exc), exit_code=exit_code) from exc


def may_be_altered(exc: asyncpg.PostgresError) -> bool:
    """Whether somebody who has altered a table may be the cause.

    A value that does not fit into its column, a constraint we did not make, a name that is not
    there: the server does not say in every case of which table it speaks.
    """
    return (exc.sqlstate or "")[:2] in _OF_TABLES


def store_error(exc: BaseException, where: str) -> StoreError:
    """Return what an error of the driver means for us."""
    if isinstance(exc, ssl.SSLError):
        return TlsProblem(_message(where, f"TLS failed; {_tls_fix(exc)}", exc))
    kind, sentence = _meaning(exc)
    message = _message(where, sentence, exc)
    match kind:
        case _Kind.UNAVAILABLE:
            return StoreUnavailable(message)
        case _Kind.FULL:
            return StoreFull(message)
        case _Kind.DAMAGED:
            return StoreDamaged(message)
        case _Kind.REFUSED:
            return StoreError(message)


def _meaning(exc: BaseException) -> tuple[_Kind, str]:
    """Return what the driver's error means, and the sentence that says so."""
    if isinstance(exc, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        # The statement that was prepared for the old table is gone; the next one is prepared anew.
        return _Kind.UNAVAILABLE, "a table has been altered meanwhile"
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or ""
        return _STATES.get(state) or _CLASSES.get(state[:2], _REFUSED)
    if isinstance(exc, asyncpg.InterfaceError):
        # Refused before anything is sent, and so it would be for ever: a value that cannot be
        # encoded, and two operations at once. All others say that the connection is closed.
        if isinstance(exc, ValueError) or "another operation" in str(exc):
            return _REFUSED
        return _Kind.UNAVAILABLE, _LOST
    return _Kind.UNAVAILABLE, _network_failure(exc)


def _network_failure(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "it does not answer in time"
    if isinstance(exc, ConnectionRefusedError):
        return "nobody listens there; start the server, or set Postgres.Url to where it is"
    if "rejected SSL upgrade" in str(exc):
        return (
            "it does not offer TLS, which sslmode in Postgres.Url asks for; set ssl = on in "
            "postgresql.conf, or write sslmode=prefer"
        )
    if isinstance(exc, socket.gaierror):
        return "the host's name leads to no address; correct it in Postgres.Url, or let DNS know it"
    if isinstance(exc, OSError):
        return "it cannot be reached, or the connection was lost"
    return _LOST


def _tls_fix(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return (
            "name the authority of the server's certificate with sslrootcert in Postgres.Url, and "
            "the server by a name that its certificate has"
        )
    return "look for the reason in the server's log"


def _message(where: str, sentence: str, exc: BaseException) -> str:
    # The server's DETAIL may hold rows, so it is left out.
    said = (str(exc.args[0]) if isinstance(exc, asyncpg.PostgresError) else str(exc)).strip()
    said = " ".join(said.split())[:_SAID_MAX] or type(exc).__name__
    return f"PostgreSQL at {where}: {sentence} ({said})"
