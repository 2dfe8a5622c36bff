"""WebSocket: the stream protocol with a WebSocket channel between it and the connection."""

import asyncio

from monstermq_edge.hub import Hub
from monstermq_edge.mqtt.connection import ConnectionContext
from monstermq_edge.transport.stream import StreamProtocol
from monstermq_edge.transport.websocket import WebSocketChannel, WebSocketSettings
from monstermq_shared.counters import Refusal


class WebSocketProtocol(StreamProtocol):
    """MQTT in binary WebSocket frames [MQTT-6.0.0-1], over TCP or TLS."""

    __slots__ = ("_channel",)

    def __init__(self, hub: Hub, context: ConnectionContext, settings: WebSocketSettings) -> None:
        super().__init__(hub, context)
        self._channel = WebSocketChannel(settings)

    def data_received(self, data: bytes) -> None:
        """Take the MQTT bytes out of a read chunk and feed them."""
        transport = self._transport
        channel = self._channel
        was_open = channel.open
        payload = channel.receive(data)
        if transport is not None:
            self._say(transport)
        if payload:
            super().data_received(payload)
        if channel.closing:
            if not was_open and not channel.open and channel.error is not None:
                self._context.counters.connections_refused[Refusal.WEBSOCKET_REFUSED] += 1
            self._end()

    def _say(self, transport: asyncio.Transport) -> None:
        data = self._channel.data_to_send()
        if data:
            transport.write(data)

    def _end(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.connection_lost(self._hub.clock.wall_us())
            self._context.wake(connection)

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Hand bytes of the MQTT stream to the transport, as one binary frame."""
        transport.write(self._channel.frame(data))

    def _close(self, transport: asyncio.Transport) -> None:
        self._channel.close()
        self._say(transport)
        super()._close(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone: give the channel's memory back at once."""
        self._channel.close()
        super().connection_lost(exc)
