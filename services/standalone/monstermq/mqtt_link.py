"""A small MQTT 3.1.1 client for the tools: it publishes in bulk, or watches.

A message counts as sent when the broker has it for certain. At QoS 1 and 2 an acknowledgement says
so. At QoS 0 nothing does, but a broker takes packets in order: a PINGREQ behind some messages is
answered when it has read all of them.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from monstermq_edge.mqtt.encoder import encode_answers
from monstermq_edge.mqtt.wire import (
    INCOMPLETE,
    OVERLONG,
    PacketType,
    encode_remaining_length,
    read_remaining_length,
)
from monstermq_shared.config import BrokerConfig
from monstermq_shared.errors import ConfigError, MonsterError
from monstermq_shared.operation.binding import client_host
from monstermq_shared.sessions.ports import Answer

CONNECT_S = 10.0
"""How long a connection, and the answers to CONNECT and SUBSCRIBE, may take."""

SILENCE_S = 30.0
"""A broker that has said nothing for so long, and answers no PINGREQ either, is gone."""

LOOKS = 4
"""So often it is looked in that time. Looks are counted, not seconds: whoever was stopped himself
(Ctrl-Z) finds one look due, and what has come meanwhile."""

CLOSE_S = 1.0
"""How long the end of a connection may take, of its own accord and then by force."""

PORTS = {"mqtt": 1883, "mqtts": 8883}

_CODES = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not like the client id",
    3: "it is not available",
    4: "the user name or password is wrong",
    5: "we may not",
}
_SETTLED = frozenset({PacketType.PUBACK, PacketType.PUBCOMP})
_ABOUT_PACKETS = _SETTLED | {PacketType.PUBREC, PacketType.PUBREL}
_PINGREQ = bytes((PacketType.PINGREQ << 4, 0))
_DISCONNECT = bytes((PacketType.DISCONNECT << 4, 0))


class LinkLost(MonsterError):
    """The connection has ended, or could not be made; another one may work."""


class LinkSilent(LinkLost):
    """We have ended it, for the broker says nothing."""


class LinkRefused(MonsterError):
    """The broker does not want us."""


class _NoMqtt(Exception):
    """The broker has sent what is no MQTT, or what nobody has asked for."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and who we are there.

    Attributes:
        text: How it is shown: without the password.
        host, port, tls: See there.
        user, password: None if there are none.
    """

    text: str
    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None


def address_of(url: str) -> Address:
    """Read mqtt://[user[:password]@]host[:port] or mqtts://...

    Raises:
        ConfigError: It is not one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in PORTS or not host or parts.path not in {"", "/"}:
        raise ConfigError(
            "the address of a broker is written mqtt://host:1883, mqtts://host:8883 for TLS, with "
            "mqtt://user:password@host where it asks for that"
        )
    port = PORTS[parts.scheme] if port is None else port
    shown = f"[{host}]" if ":" in host else host
    return Address(
        f"{parts.scheme}://{shown}:{port}",
        host,
        port,
        parts.scheme == "mqtts",
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def address_of_broker(config: BrokerConfig) -> Address:
    """Return where the broker of a configuration listens, as this machine reaches it.

    Raises:
        ConfigError: It has no plain TCP port.
    """
    if not config.tcp:
        raise ConfigError(
            "the configuration has no TCP port; name the broker with --into mqtts://host:8883"
        )
    return address_of(f"mqtt://{client_host(config.bind_address)}:{config.tcp}")


class Publication(NamedTuple):
    """What is published."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool


class Received(NamedTuple):
    """What a subscriber gets."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool


class Batch:
    """Messages that were sent together.

    Attributes:
        publications: They.
        waiting: How many answers have not come: one for each above QoS 0, and the PINGRESP.
    """

    __slots__ = ("publications", "waiting")

    def __init__(self, publications: Sequence[Publication]) -> None:
        self.publications = publications
        self.waiting = 1 + sum(at.qos > 0 for at in publications)


class MqttLink(asyncio.Protocol):
    """One connection.

    Args:
        address: The broker's.
        client_id: Who connects.
        on_message: Given what comes of a subscription.

    Attributes:
        address: See above.
        moved: Set whenever an answer has come, or the connection has ended.
    """

    def __init__(
        self, address: Address, client_id: str, on_message: Callable[[Received], None] | None = None
    ) -> None:
        self.address = address
        self.moved = asyncio.Event()
        self._client_id = client_id
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited: PacketType | None = None
        self._lost = LinkLost(f"{address.text} has closed the connection")
        self._writable = asyncio.Event()
        self._writable.set()
        # The beginning of a packet, and how many bytes it has, if that is known.
        self._buffer = bytearray()
        self._needed = 0
        self._batches: list[Batch] = []
        self._of_packet: dict[int, Batch] = {}
        self._pinged: deque[Batch | None] = deque()
        self._packet_id = 0
        self._silent_looks = 0
        self._look_timer: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Connect and be let in.

        Raises:
            LinkLost: The broker is not there, or not now.
            LinkRefused: It does not want us.
        """
        at = self.address
        context = ssl.create_default_context() if at.tls else None
        try:
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: self, at.host, at.port, ssl=context)
                self._write(self._connect_packet())
                body = await self._answered(PacketType.CONNACK)
        except ssl.SSLCertVerificationError as exc:
            raise LinkRefused(f"{at.text}: its certificate is not trusted: {exc}") from exc
        except (ssl.SSLError, ConnectionResetError) as exc:
            asked = "; does it speak TLS at this port?" if at.tls else ""
            raise LinkLost(f"{at.text} has closed the connection at once: {exc}{asked}") from exc
        except (OSError, TimeoutError) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or "no answer"
            raise LinkLost(f"{at.text} cannot be reached: {why}") from exc
        code = body[1] if len(body) == 2 else 1
        if code:
            reason = _CODES.get(code, f"code {code}")
            raise (LinkLost if code == 3 else LinkRefused)(f"{at.text} refuses us: {reason}")

    async def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Subscribe.

        Raises:
            LinkLost: The connection has ended.
            LinkRefused: The broker refuses a filter.
        """
        fields = b"".join(_string(each.encode()) + bytes((qos,)) for each in filters)
        self._write(_framed(PacketType.SUBSCRIBE << 4 | 2, b"\0\1" + fields))
        try:
            async with asyncio.timeout(CONNECT_S):
                codes = (await self._answered(PacketType.SUBACK))[2:]
        except TimeoutError as exc:
            raise LinkLost(f"{self.address.text} does not answer a SUBSCRIBE") from exc
        if len(codes) != len(filters):
            raise LinkRefused(f"{self.address.text} answers {len(codes)} of {len(filters)} filters")
        for each, code in zip(filters, codes, strict=True):
            if code > 2:
                raise LinkRefused(f"{self.address.text} refuses the filter {each!r}")

    async def _answered(self, kind: PacketType) -> bytes:
        """Return the body of the next packet of a kind; another answer is none."""
        self._awaited = kind
        self._answer = asyncio.get_running_loop().create_future()
        either: list[asyncio.Future[Any]] = [self._answer, self._ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            raise self._lost
        return self._answer.result()

    async def ended(self) -> LinkLost:
        """Return why the connection has ended, when it has."""
        await asyncio.shield(self._ended)
        return self._lost

    # -- publishing ------------------------------------------------------------------------------

    async def publish(self, publications: Sequence[Publication]) -> None:
        """Send messages; they stay in ``unconfirmed`` until the broker has them.

        Raises:
            LinkLost: The connection has ended.
        """
        batch = Batch(publications)
        self._batches.append(batch)
        parts: list[bytes] = []
        for topic, payload, qos, retain in publications:
            size = 2 + len(topic) + len(payload) + (2 if qos else 0)
            parts += (
                bytes((0x30 | qos << 1 | retain,)),
                encode_remaining_length(size),
                len(topic).to_bytes(2, "big"),
                topic,
            )
            if qos:
                parts.append(self._next_packet_id(batch).to_bytes(2, "big"))
            parts.append(payload)
        parts.append(_PINGREQ)
        self._pinged.append(batch)
        self._write(b"".join(parts))
        await self._writable.wait()
        if self._ended.done():
            raise self._lost

    def _next_packet_id(self, batch: Batch) -> int:
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self._of_packet:
                self._of_packet[self._packet_id] = batch
                return self._packet_id

    @property
    def unconfirmed(self) -> list[Batch]:
        """What was sent and may not have arrived, in order."""
        return self._batches

    def take_confirmed(self) -> int:
        """Return, and forget, how many messages have arrived for certain, counted from the first.

        What overtook others is counted when those have arrived.
        """
        count = done = 0
        for batch in self._batches:
            if batch.waiting:
                break
            count += len(batch.publications)
            done += 1
        del self._batches[:done]
        return count

    async def wait(self) -> None:
        """Return when something has been confirmed since the last call.

        Raises:
            LinkLost: The connection has ended.
        """
        await self.moved.wait()
        self.moved.clear()
        if self._ended.done():
            raise self._lost

    # -- the protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)
        self._look_later()

    def connection_lost(self, _exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)
        self._writable.set()
        self.moved.set()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(SILENCE_S / LOOKS, self._look)

    def _look(self) -> None:
        """Ask a broker that says nothing whether it is there; end it if it has not said so."""
        self._silent_looks += 1
        if self._silent_looks > LOOKS:
            text = f"{self.address.text} does not answer any more"
            self._abort(LinkSilent(text))
            return
        if not self._pinged:
            self._pinged.append(None)
            self._write(_PINGREQ)
        self._look_later()

    def _abort(self, why: LinkLost) -> None:
        self._lost = why
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``. What is no MQTT ends the connection."""
        self._silent_looks = 0
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        try:
            rest = self._packets(data)
        except _NoMqtt as exc:
            self._abort(LinkLost(f"{self.address.text} sends what is no MQTT: {exc}"))
        else:
            self._buffer += data[rest:]

    def _packets(self, data: bytes) -> int:
        """Take all whole packets; return where the next one begins."""
        at, end = 0, len(data)
        self._needed = 0
        while at + 2 <= end:
            length, body = read_remaining_length(data, at + 1)
            if length == OVERLONG:
                raise _NoMqtt("a remaining length of five bytes")
            if length == INCOMPLETE:
                break
            if body + length > end:
                self._needed = body + length - at
                break
            self._packet(data[at], data[body : body + length])
            at = body + length
        return at

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == PacketType.PUBLISH:
            self._publish_came(first, body)
        elif kind == PacketType.PINGRESP:
            self._settled(self._pinged.popleft() if self._pinged else None)
        elif kind == self._awaited:
            self._awaited = None
            self._answer.set_result(body)
        elif kind not in _ABOUT_PACKETS or len(body) != 2:
            raise _NoMqtt(f"a packet of type {kind} with {len(body)} bytes")
        elif kind in _SETTLED:
            self._settled(self._of_packet.pop(int.from_bytes(body, "big"), None))
        else:
            answer = Answer.PUBREL if kind == PacketType.PUBREC else Answer.PUBCOMP
            self._write(encode_answers(answer, [int.from_bytes(body, "big")]))

    def _settled(self, batch: Batch | None) -> None:
        if batch is not None:
            batch.waiting -= 1
            if not batch.waiting:
                self.moved.set()

    def _publish_came(self, first: int, body: bytes) -> None:
        qos = first >> 1 & 3
        start = 2 + int.from_bytes(body[:2], "big")
        if qos == 3 or len(body) < start + (2 if qos else 0):
            raise _NoMqtt("a PUBLISH that ends before its payload, or of QoS 3")
        topic, packet_id = body[2:start], body[start : start + 2]
        if qos:
            kind = Answer.PUBACK if qos == 1 else Answer.PUBREC
            self._write(encode_answers(kind, [int.from_bytes(packet_id, "big")]))
        if self._on_message is not None:
            payload = body[start + 2 if qos else start :]
            self._on_message(Received(topic, payload, qos, bool(first & 1)))

    def _connect_packet(self) -> bytes:
        at = self.address
        flags = 0x02 | (0x80 if at.user is not None else 0)
        fields = _string(self._client_id.encode())
        if at.user is not None:
            fields += _string(at.user.encode())
        if at.user is not None and at.password is not None:
            flags |= 0x40
            fields += _string(at.password.encode())
        # No keep-alive: it is we who ask whether the other one is there.
        head = _string(b"MQTT") + bytes((4, flags, 0, 0))
        return _framed(PacketType.CONNECT << 4, head + fields)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._ended.done():
            self._transport.write(data)

    async def close(self) -> None:
        """End the connection as MQTT asks for, if it has not ended; return when it has.

        A loop that is closed before TLS has said goodbye fails.
        """
        if self._transport is None:
            return
        self._write(_DISCONNECT)
        self._transport.close()
        ended, _ = await asyncio.wait([self._ended], timeout=CLOSE_S)
        if not ended:
            self._transport.abort()
            await asyncio.wait([self._ended], timeout=CLOSE_S)


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def _framed(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_remaining_length(len(body)) + body
