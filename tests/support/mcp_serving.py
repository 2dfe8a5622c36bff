"""The MCP server's HTTP side on a free port of loopback, in the test's event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import yaml
from tests.support.broker import LOOPBACK, free_ports

from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_mcp.places import open_sockets
from monstermq_mcp.service import McpService
from monstermq_mcp.tokens import Tokens
from monstermq_shared.config import BrokerConfig, load_config

READER = "reader-token-0123456789"
WRITER = "writer-token-0123456789"

ANSWER_S = 30.0
"""How long an answer may take; left to itself, the client gives up after five seconds."""

HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}

INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
"""The first request of a client of any version there is."""


class Serving(NamedTuple):
    """What a test may look at."""

    port: int
    counts: Counts

    @property
    def url(self) -> str:
        """Where MCP clients connect."""
        return f"http://{LOOPBACK}:{self.port}/mcp"

    async def post(self, content: Any = INITIALIZE, *, path: str = "/mcp", **headers: str) -> Any:
        """Send a request; an underscore in a header's name stands for a hyphen."""
        sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with httpx2.AsyncClient() as client:
            given = {"content": content} if isinstance(content, bytes) else {"json": content}
            return await client.post(
                f"http://{LOOPBACK}:{self.port}{path}", headers=sent, timeout=ANSWER_S, **given
            )

    async def get(self, path: str, **headers: str) -> Any:
        """Ask for a path."""
        async with httpx2.AsyncClient() as client:
            url = f"http://{LOOPBACK}:{self.port}{path}"
            return await client.get(url, headers=headers, timeout=ANSWER_S)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, and say nothing."""
        return await asyncio.open_connection(LOOPBACK, self.port)


def mcp_config(folder: Path, **mcp: Any) -> BrokerConfig:
    """Return a configuration with an MCP server on a free port."""
    (port,) = free_ports(1)
    path = folder / "mcp.yaml"
    document = {
        "SessionStoreType": "SQLITE",
        "RetainedStoreType": "SQLITE",
        "BindAddress": LOOPBACK,
        "SQLite": {"Path": str(folder / "mcp.db")},
        "ArchiveGroups": [
            {"Name": "MCP", "TopicFilter": ["#"], "LastValType": "SQLITE", "ArchiveType": "SQLITE"}
        ],
        "MCP": {"Enabled": True, "Port": port, **mcp},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_config(path, {}).config


@asynccontextmanager
async def serving(folder: Path, **mcp: Any) -> AsyncIterator[Serving]:
    """Serve while the block runs, with these keys of the section MCP."""
    config = mcp_config(folder, **mcp)
    counts = Counts()
    needs = Needs(config=config, version="1.2.3")
    service = McpService(needs, Tokens.from_config(config.mcp), open_sockets(config), counts)
    await service.start()
    try:
        yield Serving(config.mcp.port, counts)
    finally:
        await service.stop()
