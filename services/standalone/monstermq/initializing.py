"""``monstermq db init``: what PostgreSQL needs beside the tables, which a start makes itself.

That is the role which runs SQL of others (``Postgres.ReadUser``), and the indexes by which topics
are searched. It may be repeated, before the first start and while a broker runs.
"""

import asyncio
from collections.abc import Mapping
from typing import TextIO

from monstermq.invocations import Initialize
from monstermq.reaching import check_in_postgres
from monstermq_shared.config import BrokerConfig, StoreType, load_config
from monstermq_shared.config.checks import postgres_connection, reading_connection
from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres import reading_role, search_indexes
from monstermq_shared.stores.postgres.configured import searched_tables
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import translated_at_start
from monstermq_shared.stores.postgres.opening import MIGRATION_TIMEOUT_S
from monstermq_shared.stores.readable import readable_tables

_NO_ROLE = """\
Postgres.ReadUser is not set, so there is no SQL of others: set it, and Postgres.ReadPass, to have
the role made
"""
_NO_TRIGRAMS = """\
the extension pg_trgm is not there, so topics are searched by reading all their names; as superuser:
    CREATE EXTENSION pg_trgm;
then call this again
"""


def initialize(invocation: Initialize, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Make the role and the indexes that are missing, and say what was done.

    Raises:
        ConfigError: The configuration is wrong, or has nothing in PostgreSQL.
        StartupError, StoreError: The database cannot be reached or refuses, or the role is one that
            can do too much; the message says what to do.
    """
    config = load_config(invocation.config, environ).config
    check_in_postgres(config)
    return asyncio.run(_initialize(config, output))


async def _initialize(config: BrokerConfig, output: TextIO) -> ExitCode:
    settings = postgres_connection(config)
    where = f"PostgreSQL at {describe(settings)}"
    with translated_at_start(describe(settings)):
        connection = await connect(settings, statement_timeout_s=MIGRATION_TIMEOUT_S)
        try:
            reader = reading_connection(config)
            if reader is None:
                output.write(f"{where}: {_NO_ROLE}")
            else:
                readable = readable_tables(config, StoreType.POSTGRES)
                told = await _Role(connection, reader, [*readable], where).make()
                output.write(f"{where}: {told}\n")
            output.write(f"{where}: {await _index(connection, config)}\n")
        finally:
            await connection.close()
    return ExitCode.OK


async def _index(connection: Connection, config: BrokerConfig) -> str:
    there = await search_indexes.make_trigrams(connection)
    made = await search_indexes.index_existing(connection, searched_tables(config))
    told = (
        f"indexes for searching topics made: {', '.join(made)}"
        if made
        else (
            "nothing to do for searching topics; tables that a start makes get their indexes then"
        )
    )
    return told if there else f"{told}\n{_NO_TRIGRAMS}".rstrip()


class _Role:
    """The role that runs SQL of others.

    Args:
        connection: Of the broker's role.
        reader: How the other one logs in.
        tables: What it may read.
        where: The database, as messages name it.
    """

    def __init__(
        self,
        connection: Connection,
        reader: ConnectionSettings,
        tables: list[str],
        where: str,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._tables = tables
        self._where = where

    async def make(self) -> str:
        """Make it if it is missing, and its rights what they should be; say what was done."""
        name = self._reader.user
        there = await reading_role.has_role(self._connection, name)
        if not there:
            await self._make_role()
        granted = await reading_role.give_rights(self._connection, name, self._tables)
        taken = await reading_role.take_rights(self._connection, name, self._tables)
        await self._check()
        done = [] if there else ["was made"]
        done += ["was given the right to read archives and last values"] if granted else []
        done += ["has lost its other rights in the broker's tables"] if taken else []
        what = ", ".join(done) or "is as it should be"
        return f"the role {name} {what}; it may read {', '.join(self._tables) or 'no table'}"

    async def _make_role(self) -> None:
        name = self._reader.user
        if not await reading_role.may_make_roles(self._connection):
            raise StartupError(
                f"{self._where}: there is no role {name}, and Postgres.User may not make one; as "
                f"superuser: CREATE ROLE \"{name}\" LOGIN PASSWORD 'what Postgres.ReadPass says'; "
                "then call this again",
                exit_code=ExitCode.STORE_UNWRITABLE,
            )
        await reading_role.make_role(self._connection, name, self._reader.password)

    async def _check(self) -> None:
        """Log in as the role, and refuse one that can do more than it should."""
        connection = await reading_role.connect_reader(self._reader, statement_timeout_s=30)
        try:
            excess = await reading_role.excess(connection, self._tables)
        finally:
            await connection.close()
        if excess is not None:
            raise StartupError(
                f"{self._where}: the role {self._reader.user} {excess}, so it is not used for SQL "
                f"of others; {reading_role.FIX}",
                exit_code=ExitCode.CONFIG,
            )
