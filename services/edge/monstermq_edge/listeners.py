"""The four ports: TCP, TLS, WebSocket and secure WebSocket."""

import asyncio
import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from monstermq_edge.hub import LINGER_S
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode

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
    """

    def __init__(self, host: str, ports: list[Port], *, handshake_s: float) -> None:
        self._handshake_s = handshake_s
        self._host = host
        self._ports = ports
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Listen on every port.

        Raises:
            StartupError: A port is taken, or may not be opened; names the key.
        """
        loop = asyncio.get_running_loop()
        for port in self._ports:
            try:
                server = await loop.create_server(
                    port.protocol,
                    self._host,
                    port.number,
                    ssl=port.tls,
                    ssl_handshake_timeout=self._handshake_s if port.tls else None,
                    ssl_shutdown_timeout=LINGER_S if port.tls else None,
                    backlog=BACKLOG,
                )
            except OSError as exc:
                await self.close()
                raise _unusable(port, self._host, exc) from exc
            self._servers.append(server)

    async def close(self) -> None:
        """Accept nobody any more; connections that are open stay so."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def urls(self) -> list[str]:
        """Return what clients can connect to."""
        host = "localhost" if self._host in {"127.0.0.1", "::1"} else self._host
        return [port.url.format(host=host, port=port.number) for port in self._ports]


def _unusable(port: Port, host: str, exc: OSError) -> StartupError:
    if exc.errno == errno.EADDRINUSE:
        why = "is used by another process: stop it, or write another number"
    elif exc.errno == errno.EACCES:
        why = "may not be opened by this user: ports below 1024 need a capability"
    elif exc.errno == errno.EADDRNOTAVAIL:
        why = "cannot be opened: BindAddress is no address of this machine"
    else:
        why = f"cannot be opened: {exc.strerror or exc}"
    return StartupError(
        f"{port.key}: port {port.number} on {host} {why}", exit_code=ExitCode.PORT_IN_USE
    )
