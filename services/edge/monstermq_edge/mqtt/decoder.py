"""Bytes in, packets out: the decoder of MQTT 3.1 and 3.1.1.

Work is done per read chunk. Consecutive PUBLISHes on one topic become one ``MessageRun`` and
consecutive acknowledgements one ``Answers``; frames of the same length are not even looked at one
by one where their bytes show that they are alike. Whatever is rare is in ``bodies``.

A chunk of a hostile client can hold a hundred thousand packets. So it is read in parts: what a call
returns is bounded, and so is each packet of it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from monstermq_edge.mqtt.bodies import (
    SPOKEN_LEVELS,
    DecoderLimits,
    read_connect,
    read_subscribe,
    read_unsubscribe,
)
from monstermq_edge.mqtt.encoder import QOS1
from monstermq_edge.mqtt.errors import MalformedPacket, PacketTooLarge, RemoteProtocolError
from monstermq_edge.mqtt.packets import (
    Answers,
    Disconnect,
    Packet,
    Pingreq,
    ProtocolLevel,
    Subscribe,
    Unsubscribe,
)
from monstermq_edge.mqtt.wire import OVERLONG, PacketType, read_remaining_length
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer

__all__ = ["Decoder", "DecoderLimits"]

# Plain integers on the hot path, because an enum's members are slow; final ones, so that they are
# part of the code when that is compiled.
_CONNECT_BYTE: Final = 0x10
_PUBLISH: Final = 3
_ANSWERS: Final = {int(kind): kind for kind in Answer}
_ANSWER_BYTES: Final = frozenset({0x40, 0x50, 0x62, 0x70})
_DUP: Final = 0x08
_QOS: Final = 0x06
_NOT_DUP: Final = 0xF7
_PLAIN_QOS_0: Final = 0x30  # neither retained nor repeated
_PLAIN_QOS_1: Final = 0x32
_PUBLISH_BODY_MIN: Final = 3  # the topic's length field and one character of topic
_FORBIDDEN_PUBLISHES: Final = frozenset(
    {0x36, 0x37, 0x3E, 0x3F, 0x38, 0x39}
)  # QoS 3; DUP with QoS 0

_SERVER_ONLY = frozenset(
    {PacketType.CONNACK, PacketType.SUBACK, PacketType.UNSUBACK, PacketType.PINGRESP}
)
_FLAGS_2 = {PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE}
_FIRST_BYTES_3_1_1 = frozenset(
    kind << 4 | (2 if kind in _FLAGS_2 else 0) for kind in set(PacketType) - _SERVER_ONLY
)
# MQTT 3.1 has a client set DUP when it repeats one of these.
_FIRST_BYTES_3_1 = _FIRST_BYTES_3_1_1 | {kind << 4 | 2 | _DUP for kind in _FLAGS_2}

_FLAGS_CLAUSES: dict[int, str] = {
    PacketType.PUBREL: "MQTT-3.6.1-1",
    PacketType.SUBSCRIBE: "MQTT-3.8.1-1",
    PacketType.UNSUBSCRIBE: "MQTT-3.10.1-1",
    PacketType.DISCONNECT: "MQTT-3.14.1-1",
}

_LIST_READERS: dict[int, Callable[[bytes, DecoderLimits], Iterator[Packet]]] = {
    PacketType.SUBSCRIBE: read_subscribe,
    PacketType.UNSUBSCRIBE: read_unsubscribe,
}
_EMPTY_PACKETS: dict[int, Packet] = {
    PacketType.PINGREQ: Pingreq(),
    PacketType.DISCONNECT: Disconnect(),
}

PACKETS_MAX: Final = 64
"""How many packets are returned at once."""

RUN_MAX: Final = 1_024
"""How many messages are in one run, and ids in one ``Answers``."""

# Frames of one length are compared by columns where there are so many for each byte to compare.
_FRAMES_PER_COLUMN: Final = 4
# Starts and stops of the payloads, and the packet ids, which are empty for QoS 0.
_Frames = tuple[list[int], list[int], list[int]]
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


class Decoder:
    """Cuts one client's bytes into packets.

    Give a chunk to ``feed`` and handle what it returns; as long as ``unread`` is set, go on with
    ``more`` before the next chunk. Then look at ``error``: once that is set the connection must be
    closed, because nothing more is read.

    Attributes:
        error: The rule the peer broke, or None. Packets before the broken one were returned.
        level: ``Connect.level`` of the first packet; 0 before it.
    """

    __slots__ = (
        "_chunk",
        "_deaf",
        "_kept",
        "_limits",
        "_list",
        "_needed",
        "_pos",
        "error",
        "level",
    )

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        # An incomplete packet, and how long it will be. None costs an idle client nothing.
        self._kept: bytearray | None = None
        self._needed = 0
        # What is to be read yet: a chunk from a position on, and before it the rest of a packet.
        self._chunk: bytes | None = None
        self._pos = 0
        self._list: Iterator[Packet] | None = None
        self._deaf = False
        self.error: RemoteProtocolError | None = None
        self.level = 0

    @property
    def pending(self) -> int:
        """Bytes kept of a packet that is not complete yet; bounded by the size limits."""
        return 0 if self._kept is None else len(self._kept)

    @property
    def unread(self) -> bool:
        """Whether there is more to read in what was fed."""
        return self._chunk is not None

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that ``data`` completes, in order, the first of many. Never raises.

        After an error, and after a CONNECT of a level not spoken here, all input is ignored.
        """
        if self._deaf:
            return []
        kept = self._kept
        if kept is not None:
            if len(kept) + len(data) < self._needed:
                kept += data
                return []
            data = b"".join((kept, data))
            self._kept = None
        if not self.level and data and data[0] != _CONNECT_BYTE:
            problem = "the first packet is not CONNECT"
            self._refuse(RemoteProtocolError(problem, clause="MQTT-3.1.0-1"))
            return []
        packets: list[Packet] = []
        try:
            self._decode(data, 0, packets)
        except RemoteProtocolError as exc:
            self._refuse(exc)
        return packets

    def more(self) -> list[Packet]:
        """Return the packets that follow in what was fed."""
        chunk = self._chunk
        assert chunk is not None
        self._chunk = None
        packets: list[Packet] = []
        try:
            if self._list is not None:
                self._read_list(packets)
            if self._list is None:
                self._decode(chunk, self._pos, packets)
            else:
                self._chunk = chunk
        except RemoteProtocolError as exc:
            self._refuse(exc)
        return packets

    def _refuse(self, error: RemoteProtocolError) -> None:
        # The frames of a traceback would keep the chunk alive, and be a cycle with this object.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self.error = error
        self._deaf = True
        self._list = None

    def _decode(self, data: bytes, pos: int, packets: list[Packet]) -> None:
        """Append the first whole packets from ``pos`` on; keep what is not whole, or to be read."""
        end = len(data)
        limits = self._limits
        for _ in range(PACKETS_MAX):
            if pos >= end:
                return
            body = pos + 2
            if body <= end and data[pos + 1] < 0x80:
                stop = body + data[pos + 1]
            else:
                length, body = read_remaining_length(data, pos + 1)
                if length < 0:
                    self._keep_header(data, pos, length)
                    return
                stop = body + length
                self._check_size(stop - pos)
            if stop > end:
                self._keep(data, pos, stop - pos)
                return
            first = data[pos]
            if first >> 4 == _PUBLISH:
                run, pos = _read_run(data, pos, body, stop, limits)
                packets.append(run)
            elif first in _ANSWER_BYTES:
                answers, pos = _read_answers(data, pos, body, stop)
                packets.append(answers)
            else:
                pos = self._read_rare(data, pos, body, stop, packets)
                if self._list is not None:
                    break
        if pos < end or self._list is not None:
            self._chunk = data
            self._pos = pos

    def _read_list(self, packets: list[Packet]) -> None:
        """Read the next part of a SUBSCRIBE or UNSUBSCRIBE."""
        assert self._list is not None
        part = next(self._list)
        packets.append(part)
        if not isinstance(part, Subscribe | Unsubscribe) or part.last:
            self._list = None

    def _check_size(self, size: int) -> None:
        """Refuse a long packet by its header, before any of its body is kept."""
        limits = self._limits
        size_max = limits.packet_size_max if self.level else limits.connect_size_max
        if size > size_max:
            raise PacketTooLarge(f"a packet of {size} bytes: MaxMessageSizeKb allows {size_max}")

    def _keep_header(self, data: bytes, pos: int, length: int) -> None:
        """Keep a fixed header whose remaining length is not complete."""
        if length == OVERLONG:
            raise MalformedPacket("a remaining length of more than four bytes")
        self._keep(data, pos, len(data) - pos + 1)

    def _keep(self, data: bytes, pos: int, size: int) -> None:
        """Keep the beginning of a packet, to be looked at again when ``size`` bytes are there."""
        self._kept = bytearray(memoryview(data)[pos:])
        self._needed = size

    def _check_first_byte(self, first: int) -> None:
        """Check type and reserved flags of a packet that is not a PUBLISH."""
        valid = _FIRST_BYTES_3_1 if self.level == ProtocolLevel.MQTT_3_1 else _FIRST_BYTES_3_1_1
        if first in valid:
            return
        kind = first >> 4
        if kind in _SERVER_ONLY:
            raise RemoteProtocolError(f"{PacketType(kind).name} from a client")
        clause = _FLAGS_CLAUSES.get(kind, "MQTT-2.2.2-2")
        raise MalformedPacket(f"a first byte of {first:#04x}", clause=clause)

    def _read_rare(self, data: bytes, pos: int, body: int, stop: int, packets: list[Packet]) -> int:
        """Read what is neither a PUBLISH nor a usual answer, or the first part of it.

        Returns:
            The position after it, or after all where the rest is ignored.
        """
        first = data[pos]
        self._check_first_byte(first)
        kind = first >> 4
        packet = _EMPTY_PACKETS.get(kind)
        if packet is not None:
            if stop > body:
                raise MalformedPacket(f"{PacketType(kind).name} with a body")
            packets.append(packet)
        elif kind == PacketType.CONNECT:
            connect = read_connect(data[body:stop], self._limits)
            packets.append(connect)
            if not self.level:
                self.level = connect.level
                self._deaf = connect.level not in SPOKEN_LEVELS
        elif kind in _ANSWERS:
            answers, stop = _read_answers(data, pos, body, stop)
            packets.append(answers)
        else:
            self._list = _LIST_READERS[kind](data[body:stop], self._limits)
            self._read_list(packets)
        return len(data) if self._deaf else stop


def _read_run(
    data: bytes, pos: int, body: int, stop: int, limits: DecoderLimits
) -> tuple[MessageRun, int]:
    """Read the PUBLISH at ``pos`` and those after it that are on the same topic.

    The frame's body is ``data[body:stop]``. A run only goes on over whole and valid frames; the
    frame that ends it is read, or refused, as the first of its own.

    Returns:
        The run, and the position after its last frame.
    """
    first = data[pos]
    if stop - body < _PUBLISH_BODY_MIN or first in _FORBIDDEN_PUBLISHES:
        raise _refused_publish(first, data[body:stop], limits)
    topic_start = body + 2
    topic_stop = topic_start + (data[body] << 8 | data[body + 1])
    qos = first >> 1 & 3
    start = topic_stop + 2 if qos else topic_stop
    if start > stop or not topic_start < topic_stop <= topic_start + limits.topic_length_max:
        raise _refused_publish(first, data[body:stop], limits)
    ids: Sequence[int] = ()
    if qos:
        ids = (data[topic_stop] << 8 | data[topic_stop + 1],)
        if ids == (0,):
            raise RemoteProtocolError("PUBLISH with packet id 0", clause="MQTT-2.3.1-1")
    topic = data[topic_start:topic_stop]
    minimal = data[body - 1]  # the last digit of the remaining length; a 0 there adds nothing
    # Looking where the next frame would have its topic nearly always settles it.
    if data[topic_start + stop - pos : topic_stop + stop - pos] == topic:
        starts, stops, ids, run_stop = _read_more(
            data, pos, body, topic_stop, stop, limits.packet_size_max
        )
        run = MessageRun(topic, qos, first & 1 == 1, data, ids, starts, stops)
        if first == _PLAIN_QOS_0 and minimal:
            run.frames = data[pos:run_stop]
        return run, run_stop
    payload = data[start:stop]
    run = MessageRun(topic, qos, first & 1 == 1, payload, ids)
    # Subscribers get these bytes, except the packet id, if the encoder would write the same.
    if first == _PLAIN_QOS_0 and minimal:
        run.frames = data[pos:stop]
    elif first == _PLAIN_QOS_1 and minimal:
        run.encodings = {QOS1: (data[pos:topic_stop], b"", payload)}
    return run, stop


def _refused_publish(first: int, body: bytes, limits: DecoderLimits) -> RemoteProtocolError:
    """Work out what is wrong with a PUBLISH."""
    if first & 0x06 == 0x06:
        return MalformedPacket("PUBLISH with QoS 3", clause="MQTT-3.3.1-4")
    if first in _FORBIDDEN_PUBLISHES:
        return RemoteProtocolError("PUBLISH with DUP and QoS 0", clause="MQTT-3.3.1-2")
    topic_length = int.from_bytes(body[:2], "big")
    if len(body) >= 2 and not topic_length:
        return MalformedPacket("PUBLISH with an empty topic", clause="MQTT-4.7.3-1")
    if topic_length > limits.topic_length_max:
        return RemoteProtocolError(f"a topic of {topic_length} bytes is over the limit")
    return MalformedPacket("PUBLISH ends within its topic or packet id", clause="MQTT-3.3.2-1")


def _read_more(
    data: bytes, pos: int, body: int, topic_stop: int, stop: int, size_max: int
) -> tuple[Sequence[int], Sequence[int], Sequence[int], int]:
    """Read the run that begins with the valid frame at ``pos``.

    Returns:
        Starts and stops of the payloads, the packet ids, and where the run ends.
    """
    size = stop - pos
    start = topic_stop
    ids: list[int] = []
    run_stop = _alike_until(data, data[pos:topic_stop], stop, size)
    if data[pos] & _QOS:
        start += 2
        ids = _read_ids(data, topic_stop, size, run_stop)
        run_stop = pos + len(ids) * size
    starts = range(start, run_stop + 1, size)
    stops = range(stop, run_stop + 1, size)
    followed = data[run_stop + body - pos : run_stop + topic_stop - pos] == data[body:topic_stop]
    if not followed or len(starts) >= RUN_MAX:
        return starts, stops, ids, run_stop
    frames = list(starts), list(stops), ids
    run_stop = _extend_run(data, run_stop, data[body:topic_stop], frames, data[pos], size_max)
    return *frames, run_stop


def _extend_run(
    data: bytes, pos: int, topic_field: bytes, frames: _Frames, first: int, size_max: int
) -> int:
    """Add the frames from ``pos`` on that go on with a run, whatever their length.

    ``topic_field`` is the topic with its length, ``first`` the first byte of the run.

    Returns:
        Where the run ends: before the first frame that is another's, incomplete or in doubt.
    """
    starts, stops, ids = frames
    end = len(data)
    mask = _NOT_DUP if ids else 0xFF
    kind = first & mask
    topic_size = len(topic_field)
    while len(starts) < RUN_MAX and pos + 1 < end and data[pos] & mask == kind:
        body = pos + 2
        length = data[pos + 1]
        if length >= 0x80:
            length, body = read_remaining_length(data, pos + 1)
            if not data[body - 1] or body - pos + length > size_max:
                break
        start = body + topic_size
        stop = body + length
        if ids:
            start += 2
        if start > stop or stop > end or data[body : body + topic_size] != topic_field:
            break
        if ids:
            packet_id = data[start - 2] << 8 | data[start - 1]
            if not packet_id:
                break
            ids.append(packet_id)
        starts.append(start)
        stops.append(stop)
        pos = stop
    return pos


def _read_answers(data: bytes, pos: int, body: int, stop: int) -> tuple[Answers, int]:
    """Read the answer at ``pos`` and those of the same kind after it.

    Returns:
        Their ids, and the position after the last of them.
    """
    kind = _ANSWERS[data[pos] >> 4]
    if stop - body != 2:
        raise MalformedPacket(f"{kind.name} with a body of {stop - body} bytes")
    ids = [data[body] << 8 | data[body + 1]]
    if not ids[0]:
        raise RemoteProtocolError(f"{kind.name} of packet id 0", clause="MQTT-2.3.1-1")
    head = data[pos:body]
    if data[stop : stop + body - pos] == head:
        size = stop - pos
        ids = _read_ids(data, body, size, _alike_until(data, head, stop, size))
        stop = pos + len(ids) * size
    return Answers(kind, ids), stop


def _alike_until(data: bytes, prefix: bytes, pos: int, size: int) -> int:
    """Return where the frames of ``size`` bytes that begin with ``prefix`` end, from ``pos`` on.

    There is one before ``pos``, and with it they are ``RUN_MAX`` at most.
    """
    width = len(prefix)
    count = min((len(data) - pos) // size, RUN_MAX - 1)
    end = pos + count * size
    if count < width * _FRAMES_PER_COLUMN or data[pos : pos + width] != prefix:
        for at in range(pos, end, size):
            if data[at : at + width] != prefix:
                return at
        return end
    # Many: one byte of all of them at a time.
    for column in range(width):
        wanted = prefix[column : column + 1]
        found = data[pos + column : end : size]
        if found != wanted * count:
            count -= len(found.lstrip(wanted))
            end = pos + count * size
    return end


def _read_ids(data: bytes, at: int, size: int, stop: int) -> list[int]:
    """Read the packet ids at ``at`` and every ``size`` bytes from there, up to ``stop`` or an id 0.

    The first one is known not to be 0, so there is always an id.
    """
    high = data[at:stop:size]
    native = bytearray(2 * len(high))
    native[_HIGH::2] = high
    native[_LOW::2] = data[at + 1 : stop : size]
    ids = memoryview(native).cast("H").tolist()
    return ids if all(ids) else ids[: ids.index(0)]
