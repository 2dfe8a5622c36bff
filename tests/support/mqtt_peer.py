"""An MQTT client that says exactly what a test tells it to, and shows exactly what comes back.

Frames are bytes, so that wrong ones can be sent as easily as right ones. Answers are parsed
strictly: a packet from the broker that breaks the standard's format fails the test that reads it.
All waits are for events and are bounded by ``WAIT_S``.
"""

import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from tests.support.mqtt_client_frames import (
    DISCONNECT,
    PINGREQ,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    frame,
    string,
)

WAIT_S = 30.0


# What a client sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The will of a CONNECT."""

    topic: str | bytes
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False

    @property
    def flags(self) -> int:
        """The will's bits of the connect flags."""
        return 0x04 | self.qos << 3 | (0x20 if self.retain else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """What a CONNECT says beside the client id. ``flags`` replaces what would be computed."""

    clean: bool = True
    keep_alive_s: int = 0
    will: Will | None = None
    user_name: str | bytes | None = None
    password: bytes | None = None
    protocol: str | bytes = "MQTT"
    level: int = 4
    flags: int | None = None

    @property
    def connect_flags(self) -> int:
        """The byte that says what the payload holds."""
        if self.flags is not None:
            return self.flags
        bits = 0x02 if self.clean else 0
        bits |= self.will.flags if self.will else 0
        bits |= 0x80 if self.user_name is not None else 0
        return bits | (0x40 if self.password is not None else 0)


def connect_packet(client_id: str | bytes, options: ConnectOptions | None = None) -> bytes:
    """Encode CONNECT."""
    say = options or ConnectOptions()
    body = string(say.protocol) + bytes([say.level, say.connect_flags])
    body += say.keep_alive_s.to_bytes(2, "big") + string(client_id)
    if say.will is not None:
        body += string(say.will.topic) + string(say.will.payload)
    if say.user_name is not None:
        body += string(say.user_name)
    if say.password is not None:
        body += string(say.password)
    return frame(0x10, body)


# What a broker sends, and a client too where both do


@dataclass(frozen=True, slots=True)
class Connack:
    """CONNACK."""

    session_present: bool = False
    code: int = 0


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH. Two are equal whatever their packet ids, which are the sender's choice."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Puback:
    """PUBACK."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet as a client sends it."""
        return frame(0x40, self.packet_id.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Pubrec:
    """PUBREC."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet as a client sends it."""
        return frame(0x50, self.packet_id.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Pubrel:
    """PUBREL."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet as a client sends it."""
        return frame(0x62, self.packet_id.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """PUBCOMP."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet as a client sends it."""
        return frame(0x70, self.packet_id.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Suback:
    """SUBACK."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """UNSUBACK."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pingresp:
    """PINGRESP."""


Packet = Connack | Publish | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback | Pingresp

_WITH_PACKET_ID_ONLY: dict[int, type[Puback | Pubrec | Pubrel | Pubcomp | Unsuback]] = {
    0x40: Puback,
    0x50: Pubrec,
    0x62: Pubrel,
    0x70: Pubcomp,
    0xB0: Unsuback,
}


def split_packet(buffer: bytearray) -> Packet | None:
    """Remove the first packet of ``buffer`` and return it; ``None`` if it is not complete.

    Raises:
        AssertionError: It is not a packet a server may send [MQTT-2.2.2-1].
    """
    length, shift, start = 0, 0, 1
    while True:
        if start >= len(buffer):
            return None
        digit = buffer[start]
        length |= (digit & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if digit < 0x80:
            break
        assert shift < 28, "a remaining length of more than four bytes"
    if len(buffer) < start + length:
        return None
    first_byte, body = buffer[0], bytes(buffer[start : start + length])
    del buffer[: start + length]
    return _parse(first_byte, body)


def _parse(first_byte: int, body: bytes) -> Packet:
    if first_byte & 0xF0 == 0x30:
        return _parse_publish(first_byte, body)
    if first_byte == 0x20:
        assert len(body) == 2, f"CONNACK {body.hex()}"
        assert body[0] in {0, 1}, f"CONNACK {body.hex()}"
        return Connack(bool(body[0]), body[1])
    if first_byte == 0x90:
        return Suback(int.from_bytes(body[:2], "big"), tuple(body[2:]))
    if first_byte == 0xD0:
        assert not body, "PINGRESP with a body"
        return Pingresp()
    kind = _WITH_PACKET_ID_ONLY.get(first_byte)
    assert kind is not None, f"first byte {first_byte:#04x} is not of a server's packet"
    assert len(body) == 2, f"{kind.__name__} {body.hex()}"
    return kind(int.from_bytes(body, "big"))


def _parse_publish(first_byte: int, body: bytes) -> Publish:
    qos, retain, dup = first_byte >> 1 & 3, bool(first_byte & 1), bool(first_byte & 8)
    assert qos < 3, "QoS 3"
    assert qos or not dup, "QoS 0 with DUP 1 [MQTT-3.3.1-2]"
    end = 2 + int.from_bytes(body[:2], "big")
    topic, packet_id = body[2:end].decode(), 0
    if qos:
        packet_id = int.from_bytes(body[end : end + 2], "big")
        assert packet_id, "packet id 0 [MQTT-2.3.1-1]"
        end += 2
    return Publish(topic, body[end:], qos, retain, dup, packet_id)


class PeerClosed(AssertionError):
    """The broker closed the connection where a packet was expected."""


class Peer:
    """One connection to a broker.

    Nothing is read unless a method waits for it, so a peer that is left alone is a client that
    never reads.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._set_aside: deque[Packet] = deque()
        self._packet_ids: Iterator[int] = itertools.count(1)

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Self:
        """Open the network connection and say nothing yet."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(WAIT_S):
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        return cls(connection)

    async def send(self, *frames: bytes) -> None:
        """Send these bytes in one piece."""
        async with asyncio.timeout(WAIT_S):
            await asyncio.get_running_loop().sock_sendall(self._socket, b"".join(frames))

    async def read_packet(self) -> Packet:
        """Return the next packet.

        Raises:
            PeerClosed: The connection ended instead.
            TimeoutError: Nothing came within ``WAIT_S``.
        """
        return self._set_aside.popleft() if self._set_aside else await self._read_from_socket()

    async def expect(self, expected: Packet) -> None:
        """Assert that this is the next packet."""
        assert await self.read_packet() == expected

    async def expect_bytes(self, expected: bytes) -> None:
        """Assert that exactly these bytes come next; for packets whose form is the point."""
        while len(self._buffer) < len(expected):
            await self._fill()
        received = bytes(self._buffer[: len(expected)])
        del self._buffer[: len(expected)]
        assert received == expected

    async def closed(self) -> None:
        """Assert that the broker ends the connection, and says nothing more before."""
        try:
            packet = await self.read_packet()
        except PeerClosed:
            return
        raise AssertionError(f"{packet} instead of the end of the connection")

    def is_closed(self) -> bool:
        """Whether the broker has closed it at this instant, with nothing left to read."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def drop(self) -> None:
        """End the connection without a word, as a crash would."""
        self._socket.close()

    async def connect(
        self, client_id: str | bytes, options: ConnectOptions | None = None
    ) -> Connack:
        """Send CONNECT and return the CONNACK."""
        await self.send(connect_packet(client_id, options))
        packet = await self.read_packet()
        assert isinstance(packet, Connack), f"{packet} before CONNACK [MQTT-3.2.0-1]"
        return packet

    async def disconnect(self) -> None:
        """Send DISCONNECT and wait for the broker to close."""
        await self.send(DISCONNECT)
        await self.closed()
        self.drop()

    async def subscribe(self, *filters: tuple[str, int]) -> tuple[int, ...]:
        """Subscribe to (filter, QoS) pairs and return the codes of the SUBACK."""
        packet_id = next(self._packet_ids)
        await self.send(encode_subscribe(packet_id, filters))
        async with asyncio.timeout(WAIT_S):
            while True:
                packet = await self._read_from_socket()
                if isinstance(packet, Suback) and packet.packet_id == packet_id:
                    return packet.codes
                self._set_aside.append(packet)

    async def unsubscribe(self, *filters: str) -> None:
        """Unsubscribe and wait for the UNSUBACK."""
        packet_id = next(self._packet_ids)
        await self.send(encode_unsubscribe(packet_id, filters))
        await self._set_aside_until(Unsuback(packet_id))

    async def publish(
        self, topic: str | bytes, payload: bytes = b"", qos: int = 0, *, retain: bool = False
    ) -> None:
        """Publish, and see the whole exchange through; at QoS 0 there is none."""
        packet_id = next(self._packet_ids) if qos else 0
        await self.send(encode_publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain))
        if qos == 1:
            await self._set_aside_until(Puback(packet_id))
        if qos == 2:
            await self._set_aside_until(Pubrec(packet_id))
            await self.send(Pubrel(packet_id).encode())
            await self._set_aside_until(Pubcomp(packet_id))

    async def receive(self) -> Publish:
        """Return the next packet, which must be a PUBLISH, and leave it unanswered."""
        packet = await self.read_packet()
        assert isinstance(packet, Publish), f"{packet} instead of PUBLISH"
        return packet

    async def take(self) -> Publish:
        """Return the next packet, which must be a PUBLISH, and see its exchange through."""
        packet = await self.receive()
        await self.answer(packet)
        return packet

    async def answer(self, packet: Publish) -> None:
        """Acknowledge a PUBLISH to the end."""
        if packet.qos == 1:
            await self.send(Puback(packet.packet_id).encode())
        if packet.qos == 2:
            await self.send(Pubrec(packet.packet_id).encode())
            await self._set_aside_until(Pubrel(packet.packet_id))
            await self.send(Pubcomp(packet.packet_id).encode())

    async def ping(self) -> list[Packet]:
        """Send PINGREQ and return what came before the PINGRESP."""
        await self.send(PINGREQ)
        await self._set_aside_until(Pingresp())
        came, self._set_aside = list(self._set_aside), deque()
        return came

    async def _set_aside_until(self, awaited: Packet) -> None:
        """Read up to a packet; what comes before it is what ``read_packet`` returns next."""
        async with asyncio.timeout(WAIT_S):
            while (packet := await self._read_from_socket()) != awaited:
                self._set_aside.append(packet)

    async def _read_from_socket(self) -> Packet:
        while True:
            packet = split_packet(self._buffer)
            if packet is not None:
                return packet
            await self._fill()

    async def _fill(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                data = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        except ConnectionError:
            data = b""
        if not data:
            raise PeerClosed("the broker closed the connection")
        self._buffer += data
