"""WebSocket: the stream protocol with a WebSocket channel between it and the connection."""

import asyncio

from monstermq_edge.mqtt.connection import SHARE, Connection
from monstermq_edge.mqtt.context import ConnectionContext
from monstermq_edge.network.hub import Hub
from monstermq_edge.network.stream import StreamProtocol
from monstermq_edge.network.websocket import WebSocketChannel, WebSocketSettings
from monstermq_shared.counters import Refusal

FRAME_SIZE_MAX = 64 * 1024
"""Longer output is cut into several frames: some clients refuse messages above 1 MiB."""

PIECE_SIZE_MIN = 2 * 1024
"""Bytes that are unwrapped at once where they are many small frames: a fragment can be empty, and
every frame costs the library some microseconds."""

PIECE_SIZE_MAX = 32 * 1024
"""The same where they are few large ones."""

PIECE_FRAMES = 256
"""So many frames in a piece are many."""

_FRAME_WORK = 8  # units of work (``budget``) that a frame costs


class WebSocketProtocol(StreamProtocol):
    """MQTT in binary WebSocket frames [MQTT-6.0.0-1], over TCP or TLS."""

    __slots__ = ("_channel", "_piece_size", "_was_open")

    def __init__(self, hub: Hub, context: ConnectionContext, settings: WebSocketSettings) -> None:
        super().__init__(hub, context)
        self._channel = WebSocketChannel(settings)
        self._piece_size = PIECE_SIZE_MIN
        self._was_open = False

    def _receive(self, connection: Connection, data: bytes, now: float, wall_ms: int) -> bool:
        """Take the MQTT bytes out of a read chunk, as far as the share goes, and feed them."""
        channel = self._channel
        payload = self._unwrap(data)
        self._was_open = self._was_open or channel.open
        self._say()
        if payload:
            super()._receive(connection, payload, now, wall_ms)
        if channel.closing:
            self._stash = None
            self._end(connection)
        return self._has_more(connection)

    def _unwrap(self, data: bytes) -> bytes:
        """Return the payloads in a chunk; what there is no budget for goes back to the stash."""
        if len(data) <= self._piece_size:
            return self._unwrap_piece(data)
        budget = self._hub.budget
        floor = max(budget.left - SHARE, 0)
        payloads: list[bytes] = []
        pos = 0
        while pos < len(data) and not self._channel.closing:
            if pos and budget.left <= floor:
                self._stash = [data[pos:], *(self._stash or ())]
                break
            piece = data[pos : pos + self._piece_size]
            pos += len(piece)
            payloads.append(self._unwrap_piece(piece))
        return b"".join(payloads)

    def _unwrap_piece(self, data: bytes) -> bytes:
        """Unwrap at once, and learn from it how much to unwrap at once."""
        channel = self._channel
        before = channel.frames
        payload = channel.receive(data)
        frames = channel.frames - before
        self._hub.budget.left -= _FRAME_WORK * frames
        if frames > PIECE_FRAMES:
            self._piece_size = PIECE_SIZE_MIN
        elif 2 * frames < PIECE_FRAMES and self._piece_size < PIECE_SIZE_MAX:
            self._piece_size *= 2
        return payload

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

    def _end(self, connection: Connection) -> None:
        """The channel has ended, by the peer's wish or its fault."""
        if self._channel.error is not None:
            counters = self._context.counters
            if self._was_open:
                counters.malformed_packets += 1
            else:
                counters.connections_refused[Refusal.WEBSOCKET_REFUSED] += 1
            self._context.report(connection, f"WebSocket: {self._channel.close_reason}")
        self._end_of_input()

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

    def _leave(self, connection: Connection) -> None:
        """All is handled: give the channel's memory back at once."""
        self._channel.close()
        super()._leave(connection)
