"""WebSocket: the stream protocol with a WebSocket channel between it and the connection."""

import asyncio

from monstermq_edge.hub import Hub
from monstermq_edge.mqtt.context import ConnectionContext
from monstermq_edge.transport.stream import StreamProtocol
from monstermq_edge.transport.websocket import WebSocketChannel, WebSocketSettings
from monstermq_shared.counters import Refusal

FRAME_SIZE_MAX = 64 * 1024
"""Longer output is cut into several frames: some clients refuse messages above 1 MiB."""


class WebSocketProtocol(StreamProtocol):
    """MQTT in binary WebSocket frames [MQTT-6.0.0-1], over TCP or TLS."""

    __slots__ = ("_channel", "_was_open")

    def __init__(self, hub: Hub, context: ConnectionContext, settings: WebSocketSettings) -> None:
        super().__init__(hub, context)
        self._channel = WebSocketChannel(settings)
        self._was_open = False

    def _receive(self, data: bytes) -> None:
        """Take the MQTT bytes out of a read chunk and feed them."""
        channel = self._channel
        payload = channel.receive(data)
        self._was_open = self._was_open or channel.open
        self._say()
        if payload:
            super()._receive(payload)
        if channel.closing:
            self._end()

    def _say(self) -> None:
        """Send what the channel itself has to say: handshake, pongs, close frame."""
        data = self._channel.data_to_send()
        transport = self._transport
        if not data or transport is None:
            return
        transport.write(data)
        connection = self.connection
        if connection is not None and connection.congested and not connection.flooded:
            # A peer that pings and never reads: its pongs must not pile up here.
            connection.flooded = True
            self._context.wake(connection)

    def resume_writing(self) -> None:
        """The peer has read what there was."""
        if self.connection is not None:
            self.connection.flooded = False
        super().resume_writing()

    def _end(self) -> None:
        """The channel has ended, by the peer's wish or its fault."""
        connection = self.connection
        if connection is None:
            return
        if self._channel.error is not None:
            counters = self._context.counters
            if self._was_open:
                counters.malformed_packets += 1
            else:
                counters.connections_refused[Refusal.WEBSOCKET_REFUSED] += 1
            self._context.report(connection, f"WebSocket: {self._channel.close_reason}")
        connection.connection_lost(self._hub.clock.wall_us())
        self._context.wake(connection)

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Hand bytes of the MQTT stream to the transport, in binary frames."""
        if len(data) <= FRAME_SIZE_MAX:
            transport.write(self._channel.frame(data))
            return
        for begin in range(0, len(data), FRAME_SIZE_MAX):
            transport.write(self._channel.frame(data[begin : begin + FRAME_SIZE_MAX]))

    def _close(self, transport: asyncio.Transport) -> None:
        self._channel.close()
        self._say()
        super()._close(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone: give the channel's memory back at once."""
        self._channel.close()
        super().connection_lost(exc)
