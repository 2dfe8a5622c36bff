"""SQL of others: one statement that reads, as a role that can do nothing else.

What it says is never trusted to be what it seems. It runs as ``Postgres.ReadUser``, whose rights
are looked at before; alone on a connection that nothing else uses, so that settings, locks and all
else that belongs to a session end with it; in a transaction that is read-only and is rolled back;
and as a part of a statement of ours, where only a query can stand, which bounds its rows and bytes
on the server.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from monstermq_shared.config import StoreType
from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import NotSupported, QueryRefused, StoreUnavailable
from monstermq_shared.queries.bounds import CELL_SIZE_MAX
from monstermq_shared.queries.sql import Cell, CutValue, SqlAnswer, SqlQuery, Table
from monstermq_shared.stores.postgres import reading_role
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.errors import forget_lost_waits, translated
from monstermq_shared.stores.postgres.queries.asking import (
    CONNECTIONS_MAX,
    SERVERS_SHARE,
    Turns,
)
from monstermq_shared.stores.sql import fill_in, load_queries

COLUMNS_MAX = 64
"""Columns of an answer."""

_QUERIES = load_queries(__package__, "statements.sql")

_PLAIN = {"bool", "int2", "int4", "int8", "float4", "float8"}
_TIMES = {"timestamptz", "timestamp"}
_NUMBER_LENGTH_MAX = 40
_SAID_MAX = 300
_TIME = re.compile(r"(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?")

_ONLY_READS = (
    "give one SELECT statement (or WITH, VALUES or TABLE) that reads; nothing else can be run here"
)
_NO_NUMBERS = (
    "; where payloads are no numbers leave them out: WHERE jsonb_typeof(payload_json) = 'number'"
)
_MISWRITTEN = {"42601", "42703", "42883", "42P01"}
"""Its syntax, or a column, a function or operator for such types, or a table that is not there."""

_FORMS = (
    "this is PostgreSQL, which takes one SELECT: write payload::float,"
    " (payload_json ->> 'value')::float, and time > now() - interval '1 hour'"
)
# What a rolled back transaction does not take back, what runs SQL that stands in a text, and what
# changes settings: client_encoding, in which we read the answer, and work_mem, by which the owner
# bounds the server's memory. A name can be written in one other way, by escapes, which nobody needs
# who only reads.
_DOES_MORE = re.compile(
    r'U&"|\b(?:pg_(?:try_)?advisory_\w+|pg_logical_emit_message|pg_(?:cancel|terminate)_backend'
    r"|set_config"
    r"|(?:query|cursor)_to_xml\w*|ts_stat|ts_rewrite|dblink\w*|crosstab\w*|connectby|xpath_table)\b",
    re.IGNORECASE,
)
# By the first characters of the SQLSTATE: what who asks can mend.
_ASKERS = ("21", "22", "25", "2F", "38", "39", "42", "44", "0A", "54", "55000", "P0001", "XX000")
_READ_ONLY, _NO_RIGHT, _NOT_A_NUMBER, _TOO_MUCH_ROOM = "25006", "42501", "22P02", "53400"


class PostgresSqlQueries:
    """Runs statements in the database's own SQL.

    Args:
        reader: How the role that only reads logs in.
        tables: Table -> what it is, of those that the role may read.
        timeout_s: Seconds after which a statement is given up, its waiting included.
    """

    store_type = StoreType.POSTGRES.value

    def __init__(
        self, reader: ConnectionSettings, tables: Mapping[str, Table], *, timeout_s: float
    ) -> None:
        self._reader = reader
        self._where = describe(reader)
        self._tables = tables
        self._timeout_s = timeout_s
        self._turns = Turns(self._where, timeout_s)
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._lent: set[Connection] = set()
        self._closed = False

    async def run(self, query: SqlQuery) -> SqlAnswer:
        """Run one statement that reads the tables, and nothing else."""
        async with self._turns.turn(self._connection()) as lent:
            return await self._run_alone(lent, query)

    async def tables(self) -> Sequence[Table]:
        """Return what may be read."""
        return [*self._tables.values()]

    async def close(self) -> None:
        """End all statements. A second call does nothing."""
        self._closed = True
        for connection in self._lent:
            connection.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a connection that nobody has used, and nobody will."""
        with translated(self._where):
            async with self._free:
                connection = await self._connect()
                self._lent.add(connection)
                try:
                    await connection.execute(_QUERIES["session"])
                    yield connection
                finally:
                    self._lent.discard(connection)
                    # The server takes back whatever the session has done.
                    connection.terminate()

    async def _connect(self) -> Connection:
        if self._closed:
            raise StoreUnavailable(f"PostgreSQL at {self._where}: it has been closed")
        forget_lost_waits(asyncio.get_running_loop())
        return await reading_role.connect_reader(
            self._reader, statement_timeout_s=self._timeout_s * SERVERS_SHARE
        )

    async def _run_alone(self, connection: Connection, query: SqlQuery) -> SqlAnswer:
        excess = await reading_role.excess(connection, [*self._tables])
        if excess is not None:
            raise NotSupported(
                f"no SQL is run in PostgreSQL at {self._where}: the role {self._reader.user} "
                f"{excess}; {reading_role.FIX}"
            )
        transaction = connection.transaction(readonly=True)
        await transaction.start()
        try:
            answer = await _answer(connection, query)
        except asyncpg.PostgresError as exc:
            refusal = self._refusal(exc)
            if refusal is None:
                raise
            raise refusal from exc
        await transaction.rollback()
        return answer

    def _refusal(self, exc: asyncpg.PostgresError) -> QueryRefused | None:
        """Return what an error means that the statement itself has caused; None for others."""
        state = exc.sqlstate or ""
        said = " ".join(str(exc.args[0]).split())[:_SAID_MAX]
        names = ", ".join(table.name for table in self._tables.values()) or "no table"
        if state == _NO_RIGHT:
            return QueryRefused(f"{said}; what can be read: {names}")
        if state == _READ_ONLY:
            return QueryRefused(f"{said}; {_ONLY_READS}")
        if state == _TOO_MUCH_ROOM:
            return QueryRefused(f"the SQL needs too much room ({said}); let it look at less")
        if not state.startswith(_ASKERS):
            return None
        hint = f" ({' '.join(exc.hint.split())[:_SAID_MAX]})" if exc.hint else ""
        more = _NO_NUMBERS if state == _NOT_A_NUMBER else ""
        if state in _MISWRITTEN:
            more = f"; {_FORMS}. What can be read: {names}"
        return QueryRefused(f"PostgreSQL refuses the SQL: {said}{hint}{more}")


async def _answer(connection: Connection, query: SqlQuery) -> SqlAnswer:
    """Run a statement in the transaction that is open."""
    text = query.text.strip().rstrip("; \t\r\n")
    more = _DOES_MORE.search(text)
    if more is not None:
        raise QueryRefused(f"the SQL names {more[0]}, which does more than read; leave it out")
    # On its own first: what is one statement there cannot end the parenthesis it stands in later.
    asked = await connection.prepare(text)
    columns = asked.get_attributes()
    if not columns:
        raise QueryRefused(_ONLY_READS)
    if asked.get_parameters():
        raise QueryRefused("the SQL has parameters, such as $1; write the values into it")
    if len(columns) > COLUMNS_MAX:
        raise QueryRefused(f"the SQL returns {len(columns)} columns; give at most {COLUMNS_MAX}")
    kinds = [column.type.name for column in columns]
    try:
        rows = await connection.fetch(_bounded(text, kinds), query.limit + 1, query.size_max)
    except asyncpg.PostgresSyntaxError as exc:
        raise QueryRefused(_ONLY_READS) from exc
    shown = rows[: query.limit]
    return SqlAnswer(
        columns=[column.name for column in columns],
        rows=[_row(row, kinds) for row in shown],
        more=bool(rows) and rows[0]["found"] > len(shown),
    )


def _bounded(text: str, kinds: Sequence[str]) -> str:
    """Return a statement of ours around somebody's, with the types of its columns."""
    cells, sizes = [], []
    for number, kind in enumerate(kinds, 1):
        form = "plain" if kind in _PLAIN else "bytes" if kind == "bytea" else "text"
        names = {
            "column": f"c{number}",
            "value": f"v{number}",
            "size": f"n{number}",
            "cell_size_max": str(CELL_SIZE_MAX),
        }
        cells.append(fill_in({form: _QUERIES[form]}, names)[form])
        sizes.append("8" if form == "plain" else f"coalesce(octet_length(v{number}), 0) + 8")
    numbers = range(1, len(kinds) + 1)
    values = {
        "shown": ", ".join(f"v{number}, n{number}" for number in numbers),
        "own": " + ".join(sizes),
        "cells": ", ".join(cells),
        "columns": ", ".join(f"c{number}" for number in numbers),
        "statement": text,  # the last: what is in it means nothing here
    }
    return fill_in({"rows": _QUERIES["rows"]}, values)["rows"]


def _row(row: asyncpg.Record, kinds: Sequence[str]) -> list[Cell]:
    return [_cell(row[2 * number], row[2 * number + 1], kind) for number, kind in enumerate(kinds)]


def _cell(value: Any, size: int | None, kind: str) -> Cell:  # noqa: ANN401 - any type of the server
    if size is not None:
        return CutValue(start=value, size=size)
    if kind == "numeric" and isinstance(value, str):
        return _number(value)
    if kind in _TIMES and isinstance(value, str):
        return _time(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    plain: Cell = value
    return plain


def _number(text: str) -> Cell:
    if len(text) > _NUMBER_LENGTH_MAX:
        return text
    if text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else text


def _time(text: str) -> str:
    """Return a time as ISO 8601; what that cannot say stays as the server says it."""
    found = _TIME.fullmatch(text)
    if found is None:
        return text
    date, clock, zone = found.groups()
    return f"{date}T{clock}{'Z' if zone else ''}"
