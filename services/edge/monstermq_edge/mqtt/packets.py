"""What a client can say, free of the protocol version.

A decoder turns bytes into these; only decoder and encoder know how a version lays them out. PUBLISH
has no class here: consecutive PUBLISHes become one ``monstermq_shared.messages.MessageRun``, and
consecutive acknowledgements one ``Answers``, so that work is done per read chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.sessions.ports import Answer


class ProtocolLevel(IntEnum):
    """The protocol level byte of CONNECT, without the bridge bit [MQTT-3.1.2-2]."""

    MQTT_3_1 = 3
    MQTT_3_1_1 = 4
    MQTT_5 = 5


class ConnectCode(IntEnum):
    """CONNACK return codes of MQTT 3.1.1, table 3.1."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_NAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """CONNECT. ``bridge`` is the high bit of the level, which mosquitto's bridges set."""

    level: int
    bridge: bool
    clean: bool
    keep_alive_s: int
    client_id: str
    will: Will | None
    user_name: str | None
    password: bytes | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE, or a part of a long one: (filter, QoS) in the client's order, filters validated.

    Attributes:
        packet_id: The packet's.
        filters: Those that may be subscribed to.
        refused: How many follow that are beyond ``DecoderLimits.filters_max``.
        last: No part follows.
    """

    packet_id: int
    filters: Sequence[tuple[str, int]]
    refused: int = 0
    last: bool = True


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE, or a part of a long one: filters in the client's order, validated."""

    packet_id: int
    filters: Sequence[str]
    last: bool = True


class Answers:
    """Consecutive PUBACK, PUBREC, PUBREL or PUBCOMP packets. Plain, because it is hot."""

    __slots__ = ("kind", "packet_ids")

    def __init__(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        self.kind = kind
        self.packet_ids = packet_ids


@dataclass(frozen=True, slots=True)
class Pingreq:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT: the graceful end."""


Packet = Connect | MessageRun | Answers | Subscribe | Unsubscribe | Pingreq | Disconnect
