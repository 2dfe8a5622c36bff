"""Runs one SQL statement of others; a program of its own, which its parent ends in time.

Four things stand in the way of all but reading messages: the connection cannot write
(``mode=ro``), an authorizer names what a statement may read and call, limits of the system bound
memory, processor time and temporary files, and the parent kills what has not answered by its
deadline: some functions take hours within a single step, in which SQLite asks nobody.

It imports nothing but the standard library, so that it starts in a few milliseconds. It reads a
request as JSON (``Request``) and writes an answer: ``columns``, ``rows`` and ``more``, or why there
is none: ``refused`` or ``unavailable`` with a sentence, or ``late``.
"""

import base64
import json
import math
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TypedDict
from urllib.parse import quote

_MEMORY_MAX = 512 * 1024 * 1024
_FILE_SIZE_MAX = 512 * 1024 * 1024  # of one temporary file; rows are sorted in a few of them
_NICENESS = 5
_SAID_MAX = 300
"""Characters of what SQLite says; it quotes values, which may have millions."""
_STEPS = 100_000
"""Steps of SQLite's machine, a few milliseconds, between two looks at the clock."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 16 * 1024 * 1024,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_SCALARS = """
abs char coalesce concat concat_ws format glob hex ifnull iif instr length like likelihood likely
lower ltrim max min nullif octet_length printf quote random replace round rtrim sign substr
substring trim typeof unhex unicode unlikely upper
date time datetime julianday unixepoch strftime timediff
current_date current_time current_timestamp
acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod
pi pow power radians sin sinh sqrt tan tanh trunc
json json_array json_array_length json_extract json_object json_patch json_quote json_remove
json_replace json_set json_insert json_type json_valid json_error_position -> ->>
"""
_AGGREGATES = """
avg count group_concat string_agg sum total json_group_array json_group_object
row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
"""
_FUNCTIONS = frozenset([*_SCALARS.split(), *_AGGREGATES.split()])
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_SYSTEM_TABLES = ("sqlite_", "pragma_", "dbstat")

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
}
"""What is not the fault of the statement."""

_TOO_LARGE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
"""What the limits of the system look like."""

_FORMS = (
    "This is SQLite: write CAST(payload AS REAL), payload_json ->> '$.value', and "
    "time > strftime('%Y-%m-%dT%H:%M', 'now', '-1 hour')"
)


class Request(TypedDict):
    """What the parent asks.

    Attributes:
        path: The database file.
        text: The statement.
        tables: The tables that may be read.
        rows_max: Rows at most.
        size_max: Bytes of values after which no further row is taken.
        cell_max: Characters or bytes of one value.
        within_s: Seconds until it must end.
    """

    path: str
    text: str
    tables: Sequence[str]
    rows_max: int
    size_max: int
    cell_max: int
    within_s: float


def main() -> None:
    """Read a request, run its statement, write the answer."""
    request: Request = json.load(sys.stdin)
    _restrain(request["within_s"])
    json.dump(answer(request), sys.stdout)


def answer(request: Request) -> dict[str, object]:
    """Return what the statement returns, or why it returns nothing."""
    try:
        connection = sqlite3.connect(f"file:{quote(request['path'])}?mode=ro", uri=True)
        with closing(connection):
            return _run(connection, request)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, MemoryError) as exc:
        return _failure(exc, request["tables"])


def _restrain(within_s: float) -> None:
    """Take from this process what a statement has no use for."""
    os.nice(_NICENESS)
    seconds = math.ceil(within_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE_MAX, _FILE_SIZE_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(connection: sqlite3.Connection, request: Request) -> dict[str, object]:
    _prepare(connection, request)
    cursor = connection.execute(request["text"])
    if cursor.description is None:
        return {"refused": "this statement returns nothing; give one SELECT statement"}
    rows: list[list[object]] = []
    size, more = 0, False
    for row in cursor:
        if len(rows) == request["rows_max"] or size >= request["size_max"]:
            more = True
            break
        rows.append([_cell(value, request["cell_max"]) for value in row])
        size += sum(_size(value, request["cell_max"]) for value in row)
    columns = [name for name, *_ in cursor.description]
    return {"columns": columns, "rows": rows, "more": more}


def _prepare(connection: sqlite3.Connection, request: Request) -> None:
    connection.execute("PRAGMA query_only = ON").fetchall()
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    # Once they have been used they can be used under the authorizer, which lets nobody make tables.
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
    there = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    readable = frozenset(request["tables"])
    others = frozenset(name.lower() for (name,) in there) - readable
    deadline = time.monotonic() + request["within_s"]
    connection.set_progress_handler(lambda: time.monotonic() >= deadline, _STEPS)
    connection.set_authorizer(partial(_authorize, readable, others))


def _authorize(
    readable: frozenset[str],
    others: frozenset[str],
    action: int,
    first: str | None,
    second: str | None,
    *_: str | None,
) -> int:
    """Say whether a statement may do what it is about to do."""
    match action:
        case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_RECURSIVE:
            allowed = True
        case sqlite3.SQLITE_READ:
            allowed = _may_read(readable, others, str(first).lower(), second)
        case sqlite3.SQLITE_FUNCTION:
            allowed = second is not None and second.lower() in _FUNCTIONS
        case _:
            allowed = False
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _may_read(
    readable: frozenset[str], others: frozenset[str], table: str, column: str | None
) -> bool:
    """Say whether a column may be read.

    Without a column, somebody counts rows, of what may be a part of the statement: SQLite asks for
    that by the name alone.
    """
    if table in readable or table in _TABLE_FUNCTIONS:
        return True
    return not column and table not in others and not table.startswith(_SYSTEM_TABLES)


def _cell(value: int | float | str | bytes | None, cell_max: int) -> object:
    """Return a value as JSON has it: what is cut, or binary, is an object."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value[:cell_max]).decode(), "size": len(value)}
    if isinstance(value, str) and len(value) > cell_max:
        return {"text": value[:cell_max], "size": len(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _size(value: int | float | str | bytes | None, cell_max: int) -> int:
    return min(len(value), cell_max) if isinstance(value, str | bytes) else 8


def _failure(exc: Exception, tables: Sequence[str]) -> dict[str, object]:
    """Return a sentence about what is wrong."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    names = ", ".join(map(written, tables)) or "none"
    said = str(exc)[:_SAID_MAX]
    if code == sqlite3.SQLITE_INTERRUPT:
        return {"late": True}
    if code in _UNAVAILABLE:
        return {"unavailable": said}
    if isinstance(exc, MemoryError) or code in _TOO_LARGE:
        sentence = (
            "the statement takes too much memory, or too many temporary files; ask for less: fewer "
            "rows, a shorter stretch of time"
        )
    elif isinstance(exc, sqlite3.Warning | sqlite3.ProgrammingError):
        sentence = f"give exactly one statement, without parameters ({said})"
    elif code == sqlite3.SQLITE_AUTH:
        sentence = (
            f"this statement is not allowed ({said}): only SELECT, on these tables: {names}, with "
            "SQLite's usual functions"
        )
    elif code == sqlite3.SQLITE_TOOBIG:
        sentence = (
            "a value, or the statement, is too large; leave large payloads out: "
            "length(payload_blob) < 1000000"
        )
    else:
        sentence = (
            f"SQLite does not understand the statement: {said}. {_FORMS}. The tables are {names}."
        )
    return {"refused": sentence}


def written(table: str) -> str:
    """Return a name as it must be written in SQL."""
    return table if table.isidentifier() else f'"{table}"'


if __name__ == "__main__":
    main()
