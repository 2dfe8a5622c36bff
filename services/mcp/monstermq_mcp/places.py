"""Where the MCP server listens, and what its clients are told."""

import socket

from monstermq_shared.config import BrokerConfig
from monstermq_shared.operation.binding import client_host, listen

BACKLOG = 128
"""Connections the kernel holds until they are accepted."""


def bind_address(config: BrokerConfig) -> str:
    """Return the interface it listens on."""
    return config.mcp.bind_address or config.bind_address


def open_sockets(config: BrokerConfig) -> list[socket.socket]:
    """Return the sockets of the port, listening.

    Raises:
        StartupError: It is taken, or may not be opened.
    """
    return listen("MCP.Port", bind_address(config), config.mcp.port, backlog=BACKLOG)


def url_of(config: BrokerConfig) -> str:
    """Return what a client on this machine is given."""
    return f"http://{client_host(bind_address(config))}:{config.mcp.port}/mcp"
