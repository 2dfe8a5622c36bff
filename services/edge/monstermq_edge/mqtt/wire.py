"""What decoder and encoder both know of the wire: packet types and the remaining length."""

from enum import IntEnum

from monstermq_edge.mqtt.errors import LocalProtocolError

REMAINING_LENGTH_MAX = 268_435_455
"""The largest remaining length four bytes can say (MQTT 3.1.1, table 2.4)."""

FIXED_HEADER_SIZE_MAX = 5
"""The first byte and up to four bytes of remaining length."""

INCOMPLETE = -1
"""``read_remaining_length`` needs more bytes."""

OVERLONG = -2
"""``read_remaining_length`` saw a fourth byte that promises a fifth."""


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte (MQTT 3.1.1, table 2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


def read_remaining_length(data: bytes, pos: int) -> tuple[int, int]:
    """Read the remaining length that begins at ``pos``, minimally encoded or not.

    Returns:
        The value and the position after it. The value is ``INCOMPLETE`` or ``OVERLONG`` if there
        is none; nothing is raised, because a run that meets one just ends before it.
    """
    value = 0
    shift = 0
    for byte in data[pos : pos + 4]:
        value |= (byte & 0x7F) << shift
        pos += 1
        if byte < 0x80:
            return value, pos
        shift += 7
    return (OVERLONG if shift == 28 else INCOMPLETE), pos


def encode_remaining_length(length: int) -> bytes:
    """Write a remaining length in as few bytes as it needs.

    Raises:
        LocalProtocolError: It does not fit into four bytes.
    """
    if length < 0x80:
        return bytes((length,))
    if length > REMAINING_LENGTH_MAX:
        raise LocalProtocolError(f"a packet body of {length} bytes cannot be expressed in MQTT")
    digits = bytearray()
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits)
