"""The bodies of the packets a client sends rarely: CONNECT, SUBSCRIBE and UNSUBSCRIBE.

Every function takes one whole body and the limits, returns the packet, and raises
``RemoteProtocolError`` where the body breaks a rule. Only a long list of filters is returned in
parts, so that no packet takes the others' time: one of 512 KiB can hold 170,000 of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from monstermq_edge.mqtt.errors import MalformedPacket, RemoteProtocolError
from monstermq_edge.mqtt.packets import (
    Connect,
    ConnectCode,
    ProtocolLevel,
    Subscribe,
    Unsubscribe,
)
from monstermq_edge.mqtt.wire import FIXED_HEADER_SIZE_MAX, REMAINING_LENGTH_MAX
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.messages import Will
from monstermq_shared.topics import check_topic_filter, decode_topic_name, is_system_topic

SPOKEN_LEVELS = frozenset({ProtocolLevel.MQTT_3_1, ProtocolLevel.MQTT_3_1_1})
"""The levels whose packets can be decoded beyond their CONNECT."""

UNKNOWN_LEVEL = 0
"""Stands in ``Connect.level`` for a level that exists, but not under the protocol name sent."""

SHORT_PACKET_SIZE_MAX = 129
"""Packets with a one-byte remaining length are never refused for their size, so that the decoder
need not compare each; hence no size limit may be smaller."""

PART_FILTERS = 100
"""Filters of SUBSCRIBE or UNSUBSCRIBE that are handled at once: about a millisecond."""

_PROTOCOL_NAMES = {
    b"MQIsdp": frozenset({ProtocolLevel.MQTT_3_1}),
    b"MQTT": frozenset({ProtocolLevel.MQTT_3_1_1, ProtocolLevel.MQTT_5}),
}
_BRIDGE_BIT = 0x80
_BRIDGE_STATE_PREFIX = "$SYS/broker/connection/"  # every mosquitto bridge has its will there
_CLEAN_SESSION = 0x02
_WILL = 0x04
_WILL_RETAIN = 0x20
_PASSWORD = 0x40
_USER_NAME = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimits:
    """The bounds on what a client may send; one object for all connections.

    Attributes:
        packet_size_max: Bytes of a whole packet, fixed header included. A longer one is refused
            as soon as its length is known.
        connect_size_max: The same for what comes before a connection is accepted. The default is
            mosquitto's.
        filters_max: Filters in one SUBSCRIBE; those beyond are answered with 0x80.
        topic_levels_max: Levels of a topic name or filter. The default is mosquitto's.
        topic_length_max: Bytes of a topic name or filter.

    Raises:
        ValueError: A limit is outside what MQTT can express or the decoder can keep.
    """

    packet_size_max: int = 524_288
    connect_size_max: int = 100_000
    filters_max: int = 1_000
    topic_levels_max: int = 200
    topic_length_max: int = 65_535

    def __post_init__(self) -> None:
        size_max = REMAINING_LENGTH_MAX + FIXED_HEADER_SIZE_MAX
        for name, low, high in (
            ("packet_size_max", SHORT_PACKET_SIZE_MAX, size_max),
            ("connect_size_max", SHORT_PACKET_SIZE_MAX, size_max),
            ("filters_max", 1, size_max),
            ("topic_levels_max", 1, 65_536),
            ("topic_length_max", 1, 65_535),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must be between {low} and {high}")


class _Body:
    """Reads the fields of one body in order; every read checks that the field is all there."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    @property
    def exhausted(self) -> bool:
        return self._pos == len(self._data)

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def binary(self) -> bytes:
        return self._take(self.number(2))

    def text(self) -> str:
        """Read a UTF-8 string: a BOM is a character like any other [MQTT-1.5.3-3]."""
        raw = self.binary()
        try:
            text = raw.decode()
        except UnicodeDecodeError as exc:
            raise MalformedPacket("a string is not UTF-8", clause="MQTT-1.5.3-1") from exc
        if "\0" in text:
            raise MalformedPacket("a string holds U+0000", clause="MQTT-1.5.3-2")
        return text

    def _take(self, size: int) -> bytes:
        start = self._pos
        field = self._data[start : start + size]
        if len(field) < size:
            raise MalformedPacket("the packet ends within a field")
        self._pos = start + size
        return field


def read_connect(data: bytes, limits: DecoderLimits) -> Connect:
    """Read CONNECT; only name and level of one whose level is not among ``SPOKEN_LEVELS``.

    Raises:
        RemoteProtocolError: A rule is broken; ``reason`` is set if CONNACK can say which.
    """
    body = _Body(data)
    level, bridge = _read_protocol(body)
    if level not in SPOKEN_LEVELS:
        return Connect(
            level=level,
            bridge=bridge,
            clean=True,
            keep_alive_s=0,
            client_id="",
            will=None,
            user_name=None,
            password=None,
        )
    flags = body.number(1)
    _check_connect_flags(flags, level)
    connect = Connect(
        level=level,
        bridge=bridge,
        clean=bool(flags & _CLEAN_SESSION),
        keep_alive_s=body.number(2),
        client_id=body.text(),
        will=_read_will(body, flags, limits) if flags & _WILL else None,
        user_name=body.text() if _is_present(body, flags & _USER_NAME, level) else None,
        password=body.binary() if _is_present(body, flags & _PASSWORD, level) else None,
    )
    if not body.exhausted:
        raise MalformedPacket(
            "CONNECT goes on after the fields its flags announce", clause="MQTT-3.1.3-1"
        )
    return connect


def _read_protocol(body: _Body) -> tuple[int, bool]:
    """Read the protocol's name and level; a level this name does not have is ``UNKNOWN_LEVEL``."""
    levels = _PROTOCOL_NAMES.get(body.binary())
    if levels is None:
        raise MalformedPacket("CONNECT names another protocol", clause="MQTT-3.1.2-1")
    level_byte = body.number(1)
    level = level_byte & ~_BRIDGE_BIT
    if level in set(ProtocolLevel) - levels:
        level = UNKNOWN_LEVEL
    return level, bool(level_byte & _BRIDGE_BIT)


def _check_connect_flags(flags: int, level: int) -> None:
    """Check that the connect flags do not contradict each other.

    MQTT 3.1 calls bit 0 unused and has will QoS and will retain disregarded without a will.
    """
    if flags & _PASSWORD and not flags & _USER_NAME:
        raise RemoteProtocolError("a password without a user name", clause="MQTT-3.1.2-22")
    if flags & _WILL:
        if _will_qos(flags) == 3:
            raise MalformedPacket("the will's QoS is 3", clause="MQTT-3.1.2-14")
    elif level == ProtocolLevel.MQTT_3_1_1:
        if _will_qos(flags):
            raise RemoteProtocolError("a will QoS without a will", clause="MQTT-3.1.2-13")
        if flags & _WILL_RETAIN:
            raise RemoteProtocolError("will retain without a will", clause="MQTT-3.1.2-15")
    if flags & 0x01 and level == ProtocolLevel.MQTT_3_1_1:
        raise RemoteProtocolError("the reserved connect flag is set", clause="MQTT-3.1.2-3")


def _will_qos(flags: int) -> int:
    return flags >> 3 & 3


def _is_present(body: _Body, flag: int, level: int) -> bool:
    """Whether a user name or password follows; in MQTT 3.1 it may be missing despite its flag."""
    return bool(flag) and not (level == ProtocolLevel.MQTT_3_1 and body.exhausted)


def _read_will(body: _Body, flags: int, limits: DecoderLimits) -> Will:
    raw_topic = body.binary()
    payload = body.binary()
    if len(raw_topic) > limits.topic_length_max:
        raise RemoteProtocolError(f"the will's topic has {len(raw_topic)} bytes")
    try:
        topic = decode_topic_name(raw_topic, levels_max=limits.topic_levels_max)
    except InvalidTopic as exc:
        raise RemoteProtocolError(f"the will's topic: {exc}", clause=exc.clause) from exc
    reserved = is_system_topic(topic) or topic.split("/", 1)[0] == "$CONTROL"
    if reserved and not topic.startswith(_BRIDGE_STATE_PREFIX):
        raise RemoteProtocolError(
            f"a will on the broker's own topic {topic}", reason=ConnectCode.NOT_AUTHORIZED
        )
    return Will(
        topic=topic, payload=payload, qos=_will_qos(flags), retain=bool(flags & _WILL_RETAIN)
    )


def read_subscribe(data: bytes, limits: DecoderLimits) -> Iterator[Subscribe]:
    """Read SUBSCRIBE, in parts of ``PART_FILTERS`` filters.

    Raises:
        RemoteProtocolError: A rule is broken. The parts before it hold until the connection ends.
    """
    body = _Body(data)
    packet_id = _read_packet_id(body)
    if body.exhausted:
        raise RemoteProtocolError("SUBSCRIBE without a filter", clause="MQTT-3.8.3-3")
    allowed = limits.filters_max
    while not body.exhausted:
        filters: list[tuple[str, int]] = []
        refused = 0
        while len(filters) + refused < PART_FILTERS and not body.exhausted:
            topic_filter = _read_filter(body, limits)
            qos = body.number(1)
            if qos > 2:
                raise MalformedPacket(f"a requested QoS of {qos:#04x}", clause="MQTT-3.8.3-4")
            if allowed:
                allowed -= 1
                filters.append((topic_filter, qos))
            else:
                refused += 1
        yield Subscribe(packet_id, filters, refused, body.exhausted)


def read_unsubscribe(data: bytes, limits: DecoderLimits) -> Iterator[Unsubscribe]:
    """Read UNSUBSCRIBE, in parts of ``PART_FILTERS`` filters.

    Raises:
        RemoteProtocolError: A rule is broken. The parts before it hold.
    """
    body = _Body(data)
    packet_id = _read_packet_id(body)
    if body.exhausted:
        raise RemoteProtocolError("UNSUBSCRIBE without a filter", clause="MQTT-3.10.3-2")
    while not body.exhausted:
        filters: list[str] = []
        while len(filters) < PART_FILTERS and not body.exhausted:
            filters.append(_read_filter(body, limits))
        yield Unsubscribe(packet_id, filters, body.exhausted)


def _read_packet_id(body: _Body) -> int:
    packet_id = body.number(2)
    if not packet_id:
        raise RemoteProtocolError("packet id 0", clause="MQTT-2.3.1-1")
    return packet_id


def _read_filter(body: _Body, limits: DecoderLimits) -> str:
    topic_filter = body.text()
    if len(topic_filter.encode()) > limits.topic_length_max:
        raise RemoteProtocolError(f"a filter longer than {limits.topic_length_max} bytes")
    try:
        check_topic_filter(topic_filter, levels_max=limits.topic_levels_max)
    except InvalidTopic as exc:
        raise RemoteProtocolError(f"a filter: {exc}", clause=exc.clause) from exc
    return topic_filter
