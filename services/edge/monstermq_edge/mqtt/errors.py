"""What can go wrong in the protocol, whose fault it is, and how to answer.

::

    MonsterError
    └── ProtocolError            carries the clause, and the CONNACK code if one is due
        ├── LocalProtocolError   we tried to send what MQTT forbids: a bug of ours
        └── RemoteProtocolError  the peer broke a rule: close its connection [MQTT-4.8.0-1]
            ├── MalformedPacket  the bytes do not parse
            └── PacketTooLarge   a packet longer than we are willing to hold
"""

from monstermq_edge.mqtt.packets import ConnectCode
from monstermq_shared.errors import MonsterError


class ProtocolError(MonsterError):
    """The base of the errors below; never raised itself.

    Args:
        detail: What is wrong, for the log.
        clause: The normative statement that was broken, such as ``MQTT-3.1.2-3``.
        reason: The code to put into CONNACK before closing; None means close without one.
    """

    def __init__(
        self, detail: str, *, clause: str | None = None, reason: ConnectCode | None = None
    ) -> None:
        super().__init__(f"{detail} [{clause}]" if clause else detail)
        self.detail = detail
        self.clause = clause
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """We tried to send something MQTT forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something MQTT forbids."""


class MalformedPacket(RemoteProtocolError):
    """The peer's bytes are not an MQTT packet."""


class PacketTooLarge(RemoteProtocolError):
    """The peer announced a packet longer than the limit; its body was never held."""
