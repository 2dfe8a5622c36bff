"""A PostgreSQL database, a configuration that names it, and a role that may only read."""

import asyncio
import io
from itertools import count
from pathlib import Path
from typing import cast

from tests.support.postgres import ROLE, PostgresServer

from monstermq.cli import parse_arguments
from monstermq.initializing import initialize
from monstermq.invocations import Initialize
from monstermq_shared.config import load_config
from monstermq_shared.config.checks import reading_connection
from monstermq_shared.config.postgres_urls import ConnectionSettings
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.postgres.configured import open_configured
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import ARCHIVE, RETAINED

READER_PASSWORD = "only-reads"
LAST_VALUES = "MCPLastval"
_numbers = count(1)


class ReadingSite:
    """An empty database on a server, and a role of which nobody has made anything yet.

    Args:
        server: A running one.
        folder: Where the configuration is written.
        user: The broker's role; the server's superuser may make others.
        reader: The name of the other role; None for one that nobody has.

    Attributes:
        path: The configuration.
        reader: The name of the role.
    """

    def __init__(
        self,
        server: PostgresServer,
        folder: Path,
        *,
        user: str = ROLE,
        reader: str | None = None,
    ) -> None:
        self.server = server
        self.reader = f"Reader {next(_numbers)}" if reader is None else reader  # to be quoted
        self.database = server.create_database()
        self.url = server.url(self.database, user=user)
        self.path = folder / "config.yaml"
        self.path.write_text(
            "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
            "ArchiveGroups:\n"
            "- {Name: MCP, TopicFilter: ['#'], LastValType: POSTGRES, ArchiveType: POSTGRES}\n"
            f"Postgres: {{Url: '{self.url}', ReadUser: '{self.reader}', "
            f"ReadPass: {READER_PASSWORD}}}\n",
            encoding="utf-8",
        )
        self.config = load_config(self.path, {}).config

    @property
    def reading(self) -> ConnectionSettings:
        """How the role logs in."""
        settings = reading_connection(self.config)
        assert settings is not None
        return settings

    @property
    def reader_url(self) -> str:
        """The address of the database, with the role's credentials in it."""
        return self.server.url(self.database, user=self.reader, password=READER_PASSWORD)

    async def open(self) -> PostgresDatabase:
        """Open the database as a broker does, which makes its tables."""
        needed = StoresNeeded(
            session_store=True, message_stores=(RETAINED, LAST_VALUES), archive_stores=(ARCHIVE,)
        )
        return cast("PostgresDatabase", await open_configured(self.config, needed))

    async def init(self) -> str:
        """Call ``monstermq db init``; return what it wrote."""
        return await asyncio.to_thread(self._init)

    def _init(self) -> str:
        output = io.StringIO()
        invocation = parse_arguments(["db", "init", "-config", str(self.path)])
        assert isinstance(invocation, Initialize)
        assert initialize(invocation, {}, output) is ExitCode.OK
        return output.getvalue()

    def psql(self, *commands: str) -> str:
        """Run commands as superuser; see ``PostgresServer.psql``."""
        return self.server.psql(*commands, database=self.database)

    def readable(self) -> list[str]:
        """Return the tables that the role may read or change in any way."""
        found = self.psql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND "
            f"relkind = 'r' AND has_table_privilege('{self.reader}', oid, 'SELECT, INSERT, UPDATE, "
            "DELETE, TRUNCATE, REFERENCES, TRIGGER') ORDER BY relname"
        )
        return found.split()

    def close(self) -> None:
        """Delete the database and the role."""
        self.server.drop_database(self.database)
        self.server.psql(f'DROP ROLE IF EXISTS "{self.reader}"')
