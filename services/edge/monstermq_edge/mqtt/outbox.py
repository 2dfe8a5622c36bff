"""What a connection says to its client: bytes that wait for the end of the turn.

The half of ``sessions.ports.Link`` that speaks. Everything goes into one list, in order, and leaves
in one piece; only PUBACKs, PUBRECs and PUBCOMPs follow behind it, because they are less urgent.
"""

from collections.abc import Sequence
from typing import Final

from monstermq_edge.mqtt import encoder
from monstermq_edge.mqtt.context import ConnectionContext
from monstermq_edge.mqtt.phases import Phase
from monstermq_edge.mqtt.wire import PacketType
from monstermq_shared.counters import DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer, Link

_CONNECTED: Final = Phase.CONNECTED
_PUBREL: Final = Answer.PUBREL


class Outbox(Link):
    """Encodes what the engine says, and keeps it until the driver fetches it.

    Attributes:
        phase: See ``phases``. Only a connected client is told anything.
        driver: Whatever the driver wants to find again when it is woken.
        congested: The transport's buffer is above its high-water mark; set by the driver.
        room_wanted: The engine waits for room in the outbox: call ``sent`` once there is.
    """

    __slots__ = (
        "_acknowledgements",
        "_connack_due",
        "_context",
        "_out",
        "_out_size",
        "congested",
        "driver",
        "phase",
        "room_wanted",
    )

    def __init__(self, context: ConnectionContext, driver: object) -> None:
        super().__init__()
        self._context = context
        self.driver = driver
        self._out: list[bytes] | None = None
        self._out_size = 0
        # See ``ConnectionContext.wake_later``.
        self._acknowledgements: list[tuple[Answer, Sequence[int]]] | None = None
        self._connack_due = False
        self.congested = False
        self.phase = Phase.AWAITING_CONNECT
        self.room_wanted = False

    # -- the driver's half -----------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return and forget what is to be written. The driver must send it before it closes."""
        out, answers = self._out, self._acknowledgements
        if self._connack_due or (out is None and answers is None):
            return b""
        self._out = self._acknowledgements = None
        self._out_size = 0
        parts = out or []
        if answers is not None:
            parts += [encoder.encode_answers(kind, ids) for kind, ids in answers]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._context.counters.bytes_sent += len(data)
        return data

    @property
    def waiting_size(self) -> int:
        """Bytes in the outbox."""
        return self._out_size

    # -- Link: what the engine says --------------------------------------------------------------

    def _append(self, data: bytes) -> None:
        context = self._context
        if self._out is None:
            self._out = [data]
            context.wake(self)
        else:
            self._out.append(data)
        before = self._out_size
        self._out_size = size = before + len(data)
        if size > context.outbox_size_max >= before:
            context.wake(self)  # reading stops

    def _send_connack(self, code: int, session_present: bool = False) -> None:
        """Say CONNACK before all that was said meanwhile [MQTT-3.2.0-1]."""
        self._connack_due = False
        self._context.counters.packets_sent[PacketType.CONNACK] += 1
        connack = encoder.encode_connack(session_present, code)
        if self._out is None:
            self._append(connack)
        else:
            self._out.insert(0, connack)
            self._out_size += len(connack)
            self._context.wake(self)

    def forward(self, run: MessageRun) -> None:
        """See ``Link``."""
        if self.phase is not _CONNECTED:
            return
        context = self._context
        counters = context.counters
        if self._out_size > context.outbox_size_max:
            counters.dropped[DropReason.OUTBOX_FULL_QOS0] += run.count
            return
        counters.publish_sent[0] += run.count
        counters.publish_bytes_sent += run.size
        self._append(run.frames or encoder.encode_run_qos0(run))

    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See ``Link``."""
        if self.phase is not _CONNECTED or not messages:
            return
        counters = self._context.counters
        counters.publish_sent[0] += len(messages)
        data = encoder.encode_stored(messages)
        counters.publish_bytes_sent += len(data)
        self._append(data)

    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """See ``Link``."""
        if self.phase is not _CONNECTED:
            return
        counters = self._context.counters
        count = len(packet_ids)
        counters.publish_sent[qos] += count
        counters.publish_bytes_sent += run.size * count // run.count
        if dup:
            counters.publish_resent += count
        self._append(encoder.encode_run(run, first, packet_ids, qos, dup))

    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """See ``Link``."""
        if self.phase is not _CONNECTED:
            return
        context = self._context
        context.counters.packets_sent[kind] += len(packet_ids)
        if kind is _PUBREL:
            self._append(encoder.encode_answers(kind, packet_ids))
            return
        if self._acknowledgements is None:
            self._acknowledgements = [(kind, packet_ids)]
            context.wake_later(self)
        else:
            self._acknowledgements.append((kind, packet_ids))
        before = self._out_size
        self._out_size = size = before + encoder.ANSWER_SIZE * len(packet_ids)
        if size > context.outbox_size_max >= before:
            context.wake(self)

    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """See ``Link``."""
        if self.phase is _CONNECTED:
            self._context.counters.packets_sent[PacketType.SUBACK] += 1
            self._append(encoder.encode_suback(packet_id, codes))

    def unsubscribed(self, packet_id: int) -> None:
        """See ``Link``."""
        if self.phase is _CONNECTED:
            self._context.counters.packets_sent[PacketType.UNSUBACK] += 1
            self._append(encoder.encode_unsuback(packet_id))

    def has_room(self) -> bool:
        """See ``Link``."""
        room = not self.congested and self._out_size < self._context.outbox_size_max // 2
        if not room:
            self.room_wanted = True
        return room
