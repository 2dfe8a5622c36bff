"""One end of a connection that never blocks: plain, TLS or WebSocket, the same to its user."""

import base64
import os
import select
import socket
import ssl
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from tests.bench.frames import CONNACK, connect_frame, subscribe_frame

Buffer = bytes | bytearray | memoryview

READ_SIZE = 256 * 1024
_BUFFER = memoryview(bytearray(READ_SIZE))
SETUP_TIMEOUT_S = 60.0
_SO_TIMESTAMPNS = 35  # Linux; the socket module does not name it
_STAMP = struct.Struct("qq")
_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size)


class Closed(Exception):
    """The peer ended a connection that the benchmark still needs."""


class Transport(StrEnum):
    """What carries the MQTT stream."""

    TCP = "TCP"
    TLS = "TLS"
    WEBSOCKET = "WebSocket"


class Channel(Protocol):
    """A byte stream carrying MQTT."""

    def fileno(self) -> int:
        """The socket's descriptor, for epoll."""

    def receive(self) -> bytes:
        """The MQTT bytes that are there, perhaps none. Raises ``Closed``."""

    def send(self, data: Buffer) -> bool:
        """Write what fits and keep the rest for ``flush``; whether nothing was kept."""

    def flush(self) -> bool:
        """Write what was kept; whether nothing is left."""

    def close(self) -> None:
        """Close the socket."""


class TcpChannel:
    """MQTT on a plain socket."""

    __slots__ = ("_pending", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._pending = bytearray()

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._sock.fileno()

    def receive(self) -> bytes:
        """See ``Channel``."""
        try:
            size = self._read()
        except BlockingIOError:
            return b""
        except ConnectionError as error:
            raise Closed(str(error)) from error
        if not size:
            raise Closed("the peer closed the connection")
        return bytes(_BUFFER[:size])

    def send(self, data: Buffer) -> bool:
        """See ``Channel``."""
        if self._pending:
            self._pending += data
            return False
        sent = self._write(data)
        if sent == len(data):
            return True
        self._pending += memoryview(data)[sent:]
        return False

    def flush(self) -> bool:
        """See ``Channel``."""
        if self._pending:
            with memoryview(self._pending) as waiting:
                sent = self._write(waiting)
            del self._pending[:sent]
        return not self._pending

    def close(self) -> None:
        """See ``Channel``."""
        self._sock.close()

    def _read(self) -> int:
        return self._sock.recv_into(_BUFFER)

    def _write(self, data: Buffer) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0


class StampedChannel(TcpChannel):
    """MQTT on a plain socket, and the moment it came: what the reader is late by is not in it.

    Attributes:
        arrived_ns: When the kernel had the last segment of what ``receive`` returned last, in
            nanoseconds since 1970 (``SO_TIMESTAMPNS``).
    """

    __slots__ = ("arrived_ns",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.arrived_ns = 0

    def _read(self) -> int:
        size, ancillary, _, _ = self._sock.recvmsg_into([_BUFFER], _STAMP_SPACE)
        for _, kind, stamp in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _STAMP.unpack_from(stamp)
                self.arrived_ns = seconds * 1_000_000_000 + nanoseconds
        return size


class TlsChannel(TcpChannel):
    """MQTT in TLS records: what is decrypted is taken at once, since epoll cannot see it.

    What is not even read yet brings the next event: to ask for more until there is no more would
    cost an exception each time.
    """

    __slots__ = ("_tls",)

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._tls = sock

    def receive(self) -> bytes:
        """See ``Channel``."""
        chunks: list[bytes] = []
        try:
            while size := self._tls.recv_into(_BUFFER):
                chunks.append(bytes(_BUFFER[:size]))
                if not self._tls.pending():
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except ssl.SSLWantReadError:
            return b"".join(chunks)
        raise Closed("the peer closed the TLS connection")

    def _write(self, data: Buffer) -> int:
        sent = 0
        view = memoryview(data)
        try:
            while sent < len(view):
                sent += self._tls.send(view[sent:])
        except ssl.SSLWantWriteError:
            pass
        return sent


_BINARY, _PING, _PONG = 0x82, 0x89, 0x8A
_MASKED = 0x80


class WebSocketChannel:
    """MQTT in binary WebSocket frames, RFC 6455, one frame for each ``send``.

    A client masks with the key zero, which is legal and changes nothing, so masking costs the
    generator nothing while the broker unmasks as always.
    """

    __slots__ = ("_mask", "_mask_key", "_stream", "_tail")

    def __init__(self, stream: Channel, *, client: bool) -> None:
        self._stream = stream
        self._mask = _MASKED if client else 0
        self._mask_key = b"\0\0\0\0" if client else b""
        self._tail = b""

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._stream.fileno()

    def receive(self) -> bytes:
        """See ``Channel``."""
        data = self._tail + self._stream.receive()
        messages: list[bytes] = []
        position = 0
        while (bounds := _frame_bounds(data, position)) is not None:
            start, end = bounds
            if data[position] == _PING:
                self._stream.send(self._frame(_PONG, data[start:end]))
            elif data[position] == _BINARY:
                messages.append(data[start:end])
            else:
                raise Closed(f"WebSocket frame {data[position]:#x}: {data[start:end]!r}")
            position = end
        self._tail = data[position:]
        return b"".join(messages)

    def send(self, data: Buffer) -> bool:
        """See ``Channel``."""
        return self._stream.send(self._frame(_BINARY, data))

    def flush(self) -> bool:
        """See ``Channel``."""
        return self._stream.flush()

    def close(self) -> None:
        """See ``Channel``."""
        self._stream.close()

    def _frame(self, kind: int, data: Buffer) -> bytes:
        size = len(data)
        if size < 126:
            head = bytes((kind, self._mask | size))
        elif size < 65536:
            head = bytes((kind, self._mask | 126, size >> 8, size & 0xFF))
        else:
            head = bytes((kind, self._mask | 127)) + size.to_bytes(8, "big")
        return b"".join((head, self._mask_key, data))


def _frame_bounds(data: bytes, position: int) -> tuple[int, int] | None:
    """Where the payload of the frame at ``position`` begins and ends; None if not all is there."""
    if len(data) < position + 2:
        return None
    size, start = data[position + 1] & 0x7F, position + 2
    if size >= 126:
        length_end = start + (2 if size == 126 else 8)
        size, start = int.from_bytes(data[start:length_end], "big"), length_end
    if data[position + 1] & _MASKED:
        start += 4
    return (start, start + size) if len(data) >= start + size else None


def connect_socket(port: int, receive_buffer_bytes: int = 0) -> socket.socket:
    """A connected socket with Nagle off, still blocking; 0 is the system's buffer size."""
    sock = socket.socket()
    if receive_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.settimeout(SETUP_TIMEOUT_S)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who connects, and what it subscribes to, if anything."""

    client_id: str
    clean: bool = True
    topic_filter: str = ""
    qos: int = 0
    receive_buffer_bytes: int = 0
    """How much the system takes in before the client reads; 0 is its own choice."""
    stamped: bool = False
    """Over TCP: note when what is received came."""


class Opened(NamedTuple):
    """A connected client and the bytes that came with the last acknowledgement it waited for."""

    channel: Channel
    early: bytes


def open_channel(transport: Transport, port: int, client: Client) -> Opened:
    """Connect and subscribe; both are acknowledged when this returns.

    Raises:
        Closed: the broker refused, answered something else, or not within ``SETUP_TIMEOUT_S``.
    """
    sock = connect_socket(port, client.receive_buffer_bytes)
    channel: Channel
    if transport is Transport.TLS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        channel = TlsChannel(context.wrap_socket(sock))
    elif transport is Transport.WEBSOCKET:
        upgrade(sock)
        channel = WebSocketChannel(TcpChannel(sock), client=True)
    else:
        channel = StampedChannel(sock) if client.stamped else TcpChannel(sock)
    channel.send(connect_frame(client.client_id, clean=client.clean))
    connack = wait_for_bytes(channel, b"", 4)
    if connack[0] != CONNACK or connack[3]:
        raise Closed(f"CONNECT of {client.client_id} was answered with {connack[:4].hex()}")
    early = connack[4:]
    if client.topic_filter:
        channel.send(subscribe_frame(client.topic_filter, client.qos))
        suback = wait_for_bytes(channel, early, 5)
        if suback[:5] != b"\x90\x03\x00\x01" + bytes([client.qos]):
            raise Closed(f"SUBSCRIBE to {client.topic_filter} was answered with {suback[:5].hex()}")
        early = suback[5:]
    return Opened(channel, early)


def wait_for_bytes(
    channel: Channel, received: bytes, size: int, timeout_s: float = SETUP_TIMEOUT_S
) -> bytes:
    """``received`` and what follows it, at least ``size`` bytes together.

    Raises:
        Closed: the peer closed, or nothing came for ``timeout_s``.
    """
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    while len(received) < size:
        if not poller.poll(timeout_s * 1000):
            raise Closed(f"no answer within {timeout_s:g} s, only {received.hex()}")
        received += channel.receive()
    return received


def upgrade(sock: socket.socket) -> None:
    """Ask for a WebSocket on a connected, blocking socket. Raises ``Closed`` if it is refused."""
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise Closed("the WebSocket upgrade was not answered")
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise Closed(f"the WebSocket upgrade was refused: {head!r}")
