"""The MCP server itself: what it says about itself, and its tools."""

from mcp.server.mcpserver import MCPServer

from monstermq_mcp.needs import Needs


def build_server(needs: Needs) -> MCPServer:
    """Return the server.

    Args:
        needs: What it stands on.
    """
    return MCPServer(
        name="monstermq",
        title="MonsterMQ",
        version=needs.version,
        instructions="Live and past MQTT messages of a MonsterMQ broker.",
        log_level="CRITICAL",
    )
