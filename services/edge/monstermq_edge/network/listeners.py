"""The four ports: TCP, TLS, WebSocket and secure WebSocket."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from monstermq_edge.network.hub import LINGER_S
from monstermq_shared.operation.binding import listen, url_host

BACKLOG = 4_096
"""Connections the kernel holds until we accept them: a whole site reconnects at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port to listen on.

    Attributes:
        key: The configuration key that names it.
        number: The port.
        protocol: Makes the protocol of one connection.
        tls: The TLS context, or None.
        url: What a client is told, with ``{host}`` to fill in.
    """

    key: str
    number: int
    protocol: Callable[[], asyncio.Protocol]
    tls: ssl.SSLContext | None
    url: str


class Listeners:
    """Opens all ports or none.

    Args:
        host: ``BindAddress``.
        ports: What to open.
        handshake_s: How long a TLS handshake may take.
        shared: Whether other edge processes listen there too.
    """

    def __init__(
        self, host: str, ports: list[Port], *, handshake_s: float, shared: bool = False
    ) -> None:
        self._handshake_s = handshake_s
        self._shared = shared
        self._host = host
        self._ports = ports
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Listen on every port.

        Raises:
            StartupError: A port is taken, or may not be opened; names the key.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as opened:
            listeners = []
            for port in self._ports:
                for listener in listen(
                    *(port.key, self._host, port.number), backlog=BACKLOG, shared=self._shared
                ):
                    opened.callback(listener.close)
                    listeners.append((port, listener))
            opened.pop_all()
        for port, listener in listeners:
            server = await loop.create_server(
                port.protocol,
                sock=listener,
                ssl=port.tls,
                ssl_handshake_timeout=self._handshake_s if port.tls else None,
                ssl_shutdown_timeout=LINGER_S if port.tls else None,
                backlog=BACKLOG,
            )
            self._servers.append(server)

    async def close(self) -> None:
        """Accept nobody any more; connections that are open stay so."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def urls(self) -> list[str]:
        """Return what clients can connect to."""
        # Not for ::1: the first address of localhost may be the other one.
        host = "localhost" if self._host == "127.0.0.1" else url_host(self._host)
        return [port.url.format(host=host, port=port.number) for port in self._ports]
