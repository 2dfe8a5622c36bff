"""The MCP server over a real SQLite database, asked by the SDK's own client in this process."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent

from monstermq_mcp.broker_server import BrokerServer
from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_mcp.opening import opened
from monstermq_mcp.server import build_server
from monstermq_shared.config import BrokerConfig
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.sqlite import SqliteDatabase
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, RETAINED, commit_once

GROUP: Mapping[str, Any] = {"Name": "MCP", "LastValType": "SQLITE", "ArchiveType": "SQLITE"}
"""The archive group whose tables ``fill`` writes."""


def configured(path: Path, *more: Mapping[str, Any], **keys: object) -> BrokerConfig:
    """Return a configuration with that database, the group ``MCP`` and others.

    Args:
        path: The database file.
        more: Archive groups beside ``MCP``.
        keys: Further sections.
    """
    return BrokerConfig.from_layers(
        {
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": "SQLITE",
            "SQLite": {"Path": str(path)},
            "ArchiveGroups": [GROUP, *more],
            **keys,
        }
    )


async def fill(
    path: Path, *, archive: Iterable[Record] = (), values: Iterable[Record] = ()
) -> None:
    """Make the database, as a broker would have left it.

    Args:
        path: The database file.
        archive: Messages of the archive, which are last values too.
        values: Messages that are retained.
    """
    database = await SqliteDatabase.open(
        str(path),
        session_store=True,
        message_stores=[RETAINED, LAST_VALUES],
        archive_stores=[ARCHIVE],
    )
    kept = list(archive)
    commit = Commit(
        upto=10**9,
        archives={ARCHIVE: kept},
        messages={
            LAST_VALUES: {record.topic: record for record in kept},
            RETAINED: {record.topic: record for record in values},
        },
    )
    await commit_once(database, commit, ARCHIVE, LAST_VALUES, RETAINED)
    await database.close()


@asynccontextmanager
async def served(config: BrokerConfig, **given: Any) -> "AsyncIterator[Asked]":
    """Serve for as long as the context lasts.

    Args:
        config: The configuration.
        given: What else the server needs.
    """
    async with opened(Needs(config=config, version="9", **given), Counts()) as sources:
        yield Asked(build_server(sources))


class Asked:
    """A server, and calls of it as tests want them: each by a client of its own.

    Args:
        server: The server.
    """

    def __init__(self, server: BrokerServer) -> None:
        self.server = server

    async def answer(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Return what a tool answers, which must be no error."""
        found = await self.result(tool, **arguments)
        assert not found.is_error, text_of(found)
        content: dict[str, Any] | None = found.structured_content
        assert content is not None
        return content

    async def text(self, tool: str, **arguments: object) -> str:
        """Return the Markdown of what a tool answers, which must be no error."""
        found = await self.result(tool, **arguments)
        assert not found.is_error, text_of(found)
        return text_of(found)

    async def refusal(self, tool: str, **arguments: object) -> str:
        """Return the sentence of a tool's error."""
        found = await self.result(tool, **arguments)
        assert found.is_error
        assert found.structured_content is None
        return text_of(found)

    async def failure(self, tool: str, **arguments: object) -> MCPError:
        """Return the error of the protocol that a call ends with."""
        async with Client(self.server) as client:
            with pytest.raises(MCPError) as failed:
                await client.call_tool(tool, arguments)
        return failed.value

    async def result(self, tool: str, **arguments: object) -> CallToolResult:
        """Return the result of a call, whatever it is."""
        # Entered and left here, because its tasks must be those of one task, and fixtures are two.
        async with Client(self.server) as client:
            return await client.call_tool(tool, arguments)


def text_of(found: CallToolResult) -> str:
    """Return the text of a result."""
    (content,) = found.content
    assert isinstance(content, TextContent)
    return content.text
