"""Frames made before the clock starts, and answers to many frames made with a few slices.

The generator must be far faster than a broker, so nothing here works per message: every PUBLISH
of a load has the same size, a count is a division, and packet ids are cut out of a chunk by stride.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, UNSUBSCRIBE = 0x82, 0xA2
PINGREQ_FRAME, PINGRESP_FRAME, DISCONNECT_FRAME = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
ANSWER_SIZE = 4
PAYLOAD_SIZE = 32
"""Of every message, unless a load says otherwise: one of QoS 2 never does, see ``topic_name``."""

PACKET_ID_AT = 14
"""Where the packet id stands in a PUBLISH of QoS 1 or 2 on one of the topics below."""

EVERY_TOPIC = "+/bench"
ONE_VARIANT, TEN_VARIANTS = "n", "0123456789"


def topic_name(number: int, variant: str = ONE_VARIANT) -> str:
    """The topic of one pair, always 10 characters; ``variant`` is one of them.

    A QoS 2 PUBLISH is then 48 bytes, a multiple of 4 like the answers it is mixed with, and none of
    its words begins with the type byte of a PUBREL: runs can be told apart by every fourth byte.
    """
    return f"t-{number:02d}/be{variant}ch"


def pair_filter(number: int) -> str:
    """Every variant of the topic of one pair."""
    return f"t-{number:02d}/+"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def _packet(first: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first]) + encoded + body


class Will(NamedTuple):
    """What the broker publishes when a client vanishes."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


def connect_frame(
    client_id: str, *, clean: bool = True, keep_alive_s: int = 0, will: Will | None = None
) -> bytes:
    """CONNECT of MQTT 3.1.1; without a keep-alive if that is 0."""
    flags = 2 if clean else 0
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + struct.pack(">H", keep_alive_s)
    body += _text(client_id)
    if will is not None:
        body += _text(will.topic) + struct.pack(">H", len(will.payload)) + will.payload
    return _packet(0x10, body)


def subscribe_frame(topic_filter: str, qos: int) -> bytes:
    """SUBSCRIBE to one filter with packet id 1."""
    return subscribe_all_frame([topic_filter], qos)


def subscribe_all_frame(filters: Sequence[str], qos: int = 0) -> bytes:
    """SUBSCRIBE to all of ``filters`` with packet id 1."""
    code = bytes([qos])
    body = b"".join(part for one in filters for part in (_text(one), code))
    return _packet(SUBSCRIBE, b"\x00\x01" + body)


def unsubscribe_frame(filters: Sequence[str]) -> bytes:
    """UNSUBSCRIBE from all of ``filters`` with packet id 1."""
    return _packet(UNSUBSCRIBE, b"\x00\x01" + b"".join(map(_text, filters)))


def publish_frame(
    topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, packet_id: int = 1
) -> bytes:
    """PUBLISH without DUP; the packet id is written for QoS 1 and 2 only."""
    identity = struct.pack(">H", packet_id) if qos else b""
    return _packet(PUBLISH | qos << 1 | retain, _text(topic) + identity + payload)


def frame_size(qos: int, payload_size: int = PAYLOAD_SIZE) -> int:
    """Bytes of every PUBLISH on one of the topics of ``topic_name``."""
    return payload_size + (16 if qos else 14)


_DIGIT, _DIGITS = 0x30, 64
"""Numbers in payloads are digits of that base from that byte on, so that a payload is text."""
_NUMBERS = bytes(max(0, byte - _DIGIT) for byte in range(256))


def _payload(publisher: int, slot: int, size: int) -> bytes:
    filler = 0x40 | (publisher * 7 + slot) & 0x0F
    numbers = (publisher, slot // _DIGITS, slot % _DIGITS)
    return b"p" + bytes(_DIGIT + one for one in numbers) + bytes([filler]) * (size - 4)


class FrameRing:
    """A publisher's messages, encoded once and sent round and round.

    A packet id returns only after a whole round, so ``slots`` must be well over the window.
    Neighbours have different topics if there is more than one of ``variants``.
    """

    __slots__ = ("_next", "_size", "_slots", "_wire")

    def __init__(
        self,
        publisher: int,
        qos: int,
        slots: int,
        variants: str = ONE_VARIANT,
        payload_size: int = PAYLOAD_SIZE,
    ) -> None:
        frames = b"".join(
            publish_frame(
                topic_name(publisher, variants[slot % len(variants)]),
                _payload(publisher, slot, payload_size),
                qos=qos,
                packet_id=slot + 1,
            )
            for slot in range(slots)
        )
        self._wire = memoryview(frames * 2)
        self._size = frame_size(qos, payload_size)
        self._slots = slots
        self._next = 0

    def take(self, count: int) -> memoryview:
        """The next ``count`` frames, at most one round, as one piece."""
        first = self._next
        self._next = (first + count) % self._slots
        return self._wire[first * self._size : (first + count) * self._size]


def publisher_numbers(frames: bytes, qos: int) -> bytes:
    """The publisher's number of each of ``frames``, which are whole."""
    size = frame_size(qos)
    return frames[size - PAYLOAD_SIZE + 1 :: size].translate(_NUMBERS)


def check_sample(frame: bytes, qos: int, payload_size: int = PAYLOAD_SIZE) -> None:
    """Compare a delivered frame with what its publisher sent.

    Raises:
        ValueError: topic or payload are not those of any message of the load.
    """
    payload = frame[-payload_size:]
    publisher, high, low = payload[1:4].translate(_NUMBERS)
    slot = high * _DIGITS + low
    topic = topic_name(publisher, chr(frame[11])).encode()
    if frame[4:PACKET_ID_AT] != topic or payload != _payload(publisher, slot, payload_size):
        raise ValueError(f"a delivered PUBLISH of QoS {qos} is not what was sent: {frame.hex()}")


def answers(kind: int, high: bytes, low: bytes) -> bytearray:
    """One acknowledgement of ``kind`` for each packet id, given as its high and low bytes."""
    count = len(high)
    wire = bytearray(ANSWER_SIZE * count)
    wire[0::4] = bytes([kind]) * count
    wire[1::4] = b"\x02" * count
    wire[2::4] = high
    wire[3::4] = low
    return wire


def answer_publishes(
    kind: int, frames: bytes, payload_size: int = PAYLOAD_SIZE
) -> bytes | bytearray:
    """One acknowledgement of ``kind`` for each of ``frames``, which are whole and not QoS 0."""
    size = frame_size(1, payload_size)
    if len(frames) == size:
        return bytes((kind, 2, frames[PACKET_ID_AT], frames[PACKET_ID_AT + 1]))
    return answers(kind, frames[PACKET_ID_AT::size], frames[PACKET_ID_AT + 1 :: size])


def answer_answers(kind: int, packets: bytes) -> bytearray:
    """The next step, ``kind``, for each of the four-byte ``packets``."""
    return answers(kind, packets[2::4], packets[3::4])


class Run(NamedTuple):
    """Consecutive packets of one type; ``kind`` is their first byte, of a PUBLISH without flags."""

    kind: int
    packets: bytes
    size: int
    """Number of packets."""


def runs(chunk: bytes) -> Iterator[Run]:
    """Cut ``chunk``, which begins with a packet, into runs; an incomplete last packet is left out.

    For connections that carry PUBLISH of QoS 1 or 2 and four-byte answers.
    """
    kinds = chunk[0::4]
    position, size = 0, frame_size(2)
    while position < len(chunk):
        kind = chunk[position]
        if kind >> 4 == PUBLISH >> 4:
            following = kinds.find(PUBREL, position // 4)
            end = 4 * following if following >= 0 else len(chunk)
            unit, kind = size, PUBLISH
        else:
            ahead = kinds[position // 4 :]
            end = min(position + 4 * (len(ahead) - len(ahead.lstrip(bytes([kind])))), len(chunk))
            unit = ANSWER_SIZE
        count = (end - position) // unit
        if not count:
            return
        yield Run(kind, chunk[position : position + count * unit], count)
        position += count * unit
