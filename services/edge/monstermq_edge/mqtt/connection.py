"""One MQTT connection without its socket: bytes in, calls to the session engine, bytes out.

The driver feeds ``receive_data``, goes on with ``go_on`` when others have had their turn, and
fetches ``data_to_send``; it is woken through ``ConnectionContext.wake`` whenever there is something
to fetch, to close, or to hold. Time is an argument. The connection implements
``sessions.ports.Link`` for the engine.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from monstermq_edge.mqtt import encoder
from monstermq_edge.mqtt.context import ConnectionContext, Peer
from monstermq_edge.mqtt.decoder import Decoder
from monstermq_edge.mqtt.errors import ProtocolError, RemoteProtocolError
from monstermq_edge.mqtt.outbox import Outbox
from monstermq_edge.mqtt.packets import (
    Answers,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    Pingreq,
    ProtocolLevel,
    Subscribe,
    Unsubscribe,
)
from monstermq_edge.mqtt.phases import ALLOWED, Phase
from monstermq_edge.mqtt.wire import PacketType
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import SUBSCRIPTION_REFUSED, Answer, AttachRequest

_CONNECTED: Final = Phase.CONNECTED
_CLOSED: Final = Phase.CLOSED
_PUBACK: Final = Answer.PUBACK

SHARE: Final = 2_000
"""Units of work (``budget``) that one connection may cause before others have their turn."""

_CHUNK_WORK: Final = 8
"""Units of work that it costs to read anything at all."""

_PACKET_WORK: Final = 2
"""Units of work that a packet costs, or a message for one receiver."""

_FILTER_WORK = 2
"""Units of work that it costs to read a filter, whatever becomes of it."""

KEEP_ALIVE_GRACE = 1.5
"""A client may be silent for one and a half times its keep-alive [MQTT-3.1.2-24]."""


class Connection(Outbox):
    """The protocol side of one network connection.

    Attributes:
        peer: Who it is.
        session: The engine's handle, from CONNECT on.
        unread: Packets that wait for ``go_on``, which does nothing while the connection is held.
        flooded: The peer does not read what the driver itself sends it, such as WebSocket pongs,
            so nothing is read from it; set by the driver.
        clock_stopped: The peer's silence does not count: we hold it, or it waits for its CONNACK.
            Once that is over the driver must call ``start_clock``.
        is_bridge: The peer set the bridge bit of the protocol level (``Link.is_bridge``).
        deadline: Monotonic seconds at which silence ends the connection; infinite if never.
    """

    __slots__ = (
        "_codes",
        "_decoder",
        "_holds",
        "_put_back",
        "_refusal",
        "_silence_s",
        "_wall_ms",
        "client_id",
        "clock_stopped",
        "deadline",
        "flooded",
        "last_ping_ms",
        "peer",
        "session",
        "unread",
    )

    def __init__(self, context: ConnectionContext, peer: Peer, driver: object, now: float) -> None:
        super().__init__(context, driver)
        self._decoder = Decoder(context.decoder_limits)
        self.unread: Iterator[Packet] | None = None
        self._codes = b""  # of the SUBSCRIBE that is being handled, and why the first was refused
        self._refusal = ""
        self._put_back: Packet | None = None  # a SUBSCRIBE that waits, until the loop puts it back
        self._holds = 0
        self._silence_s = 0.0
        self._wall_ms = 0
        self.client_id = ""
        self.last_ping_ms = 0
        self.peer = peer
        self.session: Any = None
        self.flooded = False
        self.clock_stopped = False
        self.deadline = now + context.connect_timeout_s

    # -- the driver's half -----------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float, wall_ms: int) -> bool:
        """Take what the transport read. A peer's error closes the connection and is not raised.

        Not to be called while ``unread`` is set: what came earlier is handled first.

        Returns:
            Whether something of it is ``unread`` now.
        """
        if self.phase is _CLOSED:
            return False
        self._wall_ms = wall_ms
        if self._silence_s:
            self.deadline = now + self._silence_s
        context = self._context
        context.counters.bytes_received += len(data)
        packets = self._decoder.feed(data)
        context.budget.left -= _CHUNK_WORK + _PACKET_WORK * len(packets)
        self._handle(iter(packets), now)
        return self.unread is not None

    @property
    def owes_answers(self) -> bool:
        """Whether the peer is still to be told something that waits for a commit."""
        return self.session is not None and self._context.port.owes_answers(self.session)

    def go_on(self, now: float, wall_ms: int) -> None:
        """Handle packets that there was no budget for earlier."""
        packets = self.unread
        if packets is not None and not self._holds:
            self._wall_ms = wall_ms
            self._handle(packets, now)

    def _handle(self, packets: Iterator[Packet], now: float) -> None:
        """Handle packets as far as this connection's share of the budget goes; keep the rest."""
        self.unread = None
        budget = self._context.budget
        left = budget.left
        floor = left - SHARE if left > SHARE else 0
        decoder = self._decoder
        try:
            while True:
                for packet in packets:
                    if self.phase is not _CONNECTED:
                        self._begin(packet, now)
                    elif isinstance(packet, MessageRun):
                        self._publish(packet)
                    else:
                        self._take(packet, now)
                    if self.phase is _CLOSED:
                        return
                    if budget.left <= floor or self._holds:
                        self.unread = self._rest(packets)
                        return
                if not decoder.unread:
                    break
                more = decoder.more()
                budget.left -= _PACKET_WORK * len(more)
                packets = iter(more)
        except (RemoteProtocolError, InvalidTopic) as exc:
            self._fail(exc)
            return
        if decoder.error is not None:
            self._context.counters.malformed_packets += 1
            self._fail(decoder.error)

    def _rest(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """Return what is to be handled later: a SUBSCRIBE that waits, and what follows it."""
        waiting, self._put_back = self._put_back, None
        return packets if waiting is None else chain((waiting,), packets)

    def _begin(self, packet: Packet, now: float) -> None:
        """Handle CONNECT, which nothing may precede and which may come once."""
        if type(packet) not in ALLOWED[self.phase]:
            raise RemoteProtocolError(
                f"{type(packet).__name__} may not come while {self.phase.name}",
                clause="MQTT-3.1.0-1" if self.session is None else "MQTT-3.1.0-2",
            )
        assert isinstance(packet, Connect)
        self._connect(packet, now)

    def connection_lost(self, wall_ms: int) -> None:
        """The transport is gone."""
        self._wall_ms = wall_ms
        self._end(CloseReason.TRANSPORT_CLOSED)

    def expire(self, now: float, wall_ms: int) -> bool:
        """The deadline has passed: the client was silent for too long.

        While the clock is stopped it is given the time again: we are not reading its PINGREQs. That
        does not hold for a peer that we do not read from because it does not read itself.

        Returns:
            Whether that ended the connection; if not, it has a later deadline.
        """
        if self.clock_stopped and self._silence_s:
            self.deadline = now + self._silence_s
            return False
        self._wall_ms = wall_ms
        awaiting = self.phase is Phase.AWAITING_CONNECT
        self._end(CloseReason.CONNECT_TIMEOUT if awaiting else CloseReason.KEEP_ALIVE_TIMEOUT)
        self._context.wake(self)
        return True

    def start_clock(self, now: float) -> None:
        """Count silence from now on, unless the clock has to stay stopped."""
        if not self._holds and not self._connack_due:
            self.clock_stopped = False
            if self._silence_s:
                self.deadline = now + self._silence_s

    def crash(self, wall_ms: int) -> None:
        """A bug of ours came up while this connection was served: it ends, the others go on."""
        self._wall_ms = wall_ms
        self._end(CloseReason.FAULT)

    def shut_down(self, wall_ms: int) -> None:
        """The broker stops: the will is published, as for every end without DISCONNECT."""
        self._wall_ms = wall_ms
        self._end(CloseReason.SHUTTING_DOWN)

    def sent(self) -> bool:
        """The outbox went to the transport; return whether the engine, which waited, went on."""
        if self.congested or self.session is None:
            return False
        self.room_wanted = False
        self._context.port.drained(self.session)
        return True

    @property
    def stops_reading(self) -> bool:
        """Whether nothing should be read from the peer now, for whatever reason."""
        return self._holds > 0 or self.flooded or self._out_size > self._context.outbox_size_max

    # -- packets ---------------------------------------------------------------------------------

    def _connect(self, packet: Connect, now: float) -> None:
        context = self._context
        context.counters.packets_received[PacketType.CONNECT] += 1
        if packet.level not in {ProtocolLevel.MQTT_3_1, ProtocolLevel.MQTT_3_1_1}:
            self._refuse(
                ConnectCode.UNACCEPTABLE_PROTOCOL,
                f"protocol level {packet.level} is not supported [MQTT-3.1.2-2]",
            )
            return
        client_id = packet.client_id
        if not client_id:
            if not packet.clean or packet.level == ProtocolLevel.MQTT_3_1:
                self._refuse(
                    ConnectCode.IDENTIFIER_REJECTED,
                    "an empty client id needs MQTT 3.1.1 and clean session 1 [MQTT-3.1.3-8]",
                )
                return
            client_id = context.new_client_id()
        self.client_id = client_id
        refused = context.port.refusal(client_id, clean=packet.clean)
        if refused is not None:
            refusal, why = refused
            self._refuse(ConnectCode.SERVER_UNAVAILABLE, why, refusal)
            return
        if not context.admit(client_id, now):
            self._refuse(
                ConnectCode.SERVER_UNAVAILABLE,
                f"client id {client_id!r} is taken over too often (Limits.TakeoversPerMinute)",
                Refusal.TAKEOVER_RATE,
            )
            return
        self._accept(packet, client_id, now)

    def _accept(self, packet: Connect, client_id: str, now: float) -> None:
        context = self._context
        self.phase = Phase.CONNECTED
        self.is_bridge = packet.bridge
        keep_alive_s = packet.keep_alive_s
        maximum_s = context.keep_alive_max_s
        if maximum_s and not 0 < keep_alive_s <= maximum_s:
            keep_alive_s = maximum_s
        self._silence_s = keep_alive_s * KEEP_ALIVE_GRACE
        self.deadline = now + self._silence_s if keep_alive_s else float("inf")
        request = AttachRequest(
            client_id=client_id,
            clean=packet.clean,
            will=packet.will,
            information={
                "RemoteAddress": self.peer.remote_address,
                "LocalAddress": self.peer.local_address,
                "ProtocolVersion": packet.level,
                "SSL": self.peer.tls,
                "AutoKeepAlive": True,
                "KeepAliveTimeSeconds": packet.keep_alive_s,
            },
        )
        self._connack_due = True
        self.clock_stopped = True
        self.session = context.port.attach(self, request, self._wall_ms)
        context.came(self, request)

    def _refuse(self, code: ConnectCode, why: str, refusal: Refusal | None = None) -> None:
        """Answer CONNECT with an error code, then close [MQTT-3.2.2-5]."""
        # A refusal is called after its code, unless there is more to say.
        refusal = Refusal[code.name] if refusal is None else refusal
        self._context.counters.connections_refused[refusal] += 1
        self._send_connack(code)
        self._end(CloseReason.PROTOCOL_ERROR)
        self._context.report(self, why)

    def _publish(self, run: MessageRun) -> None:
        context = self._context
        counters = context.counters
        counters.publish_received[run.qos] += run.count
        counters.publish_bytes_received += run.size
        context.port.publish(self.session, run, self._wall_ms)

    def _answers(self, answers: Answers) -> None:
        session = self.session
        assert session is not None
        kind = answers.kind
        port = self._context.port
        self._context.counters.packets_received[kind] += len(answers.packet_ids)
        if kind is _PUBACK:
            port.acknowledge(session, answers.packet_ids)
        elif kind is Answer.PUBREC:
            port.receive(session, answers.packet_ids)
        elif kind is Answer.PUBREL:
            port.release(session, answers.packet_ids)
        else:
            port.complete(session, answers.packet_ids)

    def _take(
        self,
        packet: Connect | Answers | Subscribe | Unsubscribe | Pingreq | Disconnect,
        now: float,
    ) -> None:
        if isinstance(packet, Answers):  # by far the most, and a ``match`` looks more slowly
            self._answers(packet)
            return
        match packet:
            case Subscribe():
                self._subscribe(packet)
            case Unsubscribe():
                self._unsubscribe(packet)
            case Pingreq():
                self._pingreq()
            case Disconnect():
                self._disconnect()
            case Connect():
                self._begin(packet, now)

    def _subscribe(self, packet: Subscribe) -> None:
        context = self._context
        if not self._codes and context.port.holds_subscribe(self.session):
            self._put_back = packet
            return
        context.budget.left -= _FILTER_WORK * (len(packet.filters) + packet.refused)
        codes, refused = context.port.subscribe(self.session, packet.filters)
        self._codes += bytes(codes)
        if packet.refused:
            refused = refused or "more filters in one packet than Limits.FiltersPerSubscribe"
            context.counters.subscriptions_refused += packet.refused
            self._codes += bytes((SUBSCRIPTION_REFUSED,)) * packet.refused
        if refused and not self._refusal:
            self._refusal = refused
        if packet.last:
            context.counters.packets_received[PacketType.SUBSCRIBE] += 1
            if self._refusal:
                context.report(self, f"subscription refused: {self._refusal}")
            codes, self._codes, self._refusal = self._codes, b"", ""
            context.port.subscribed(self.session, packet.packet_id, codes)

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        port = self._context.port
        self._context.budget.left -= _FILTER_WORK * len(packet.filters)
        port.unsubscribe(self.session, packet.filters)
        if packet.last:
            self._context.counters.packets_received[PacketType.UNSUBSCRIBE] += 1
            port.unsubscribed(self.session, packet.packet_id)

    def _pingreq(self) -> None:
        self.last_ping_ms = self._wall_ms
        counters = self._context.counters
        counters.packets_received[PacketType.PINGREQ] += 1
        counters.packets_sent[PacketType.PINGRESP] += 1
        self._append(encoder.PINGRESP)

    def _disconnect(self) -> None:
        self._context.counters.packets_received[PacketType.DISCONNECT] += 1
        self._end(CloseReason.CLIENT_DISCONNECTED)
        self._context.wake(self)

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, error: ProtocolError | InvalidTopic) -> None:
        """The peer broke a rule: close, with a CONNACK where one is due."""
        reason = error.reason if isinstance(error, ProtocolError) else None
        if reason is not None and self.phase is Phase.AWAITING_CONNECT:
            self._refuse(reason, str(error))
            return
        self._end(CloseReason.PROTOCOL_ERROR)
        self._context.report(self, str(error))
        self._context.wake(self)

    def _end(self, reason: CloseReason) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.unread = None
        session, self.session = self.session, None
        if session is not None:
            self._context.counters.disconnects[reason] += 1
            self._context.port.detach(session, reason, self._wall_ms)
            self._context.went(self, reason)
        elif reason is CloseReason.CONNECT_TIMEOUT:
            self._context.counters.disconnects[reason] += 1

    # -- Link: what the engine says --------------------------------------------------------------

    def attached(self, session_present: bool) -> None:
        """See ``Link``."""
        if self.phase is not _CONNECTED:
            return
        self._context.counters.connections_total += 1
        # MQTT 3.1 has no session present flag; its bit is reserved there.
        present = session_present and self._decoder.level == ProtocolLevel.MQTT_3_1_1
        self._send_connack(ConnectCode.ACCEPTED, present)

    @property
    def is_held(self) -> bool:
        """See ``Link``."""
        return self._holds > 0

    def hold(self) -> None:
        """See ``Link``."""
        self._holds += 1
        self.clock_stopped = True
        self._context.wake(self)

    def resume(self) -> None:
        """See ``Link``."""
        self._holds -= 1
        self._context.wake(self)

    def close(self, reason: CloseReason) -> None:
        """See ``Link``."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self.unread = None
            self.session = None
            if self._connack_due and reason is CloseReason.SERVER_UNAVAILABLE:  # E2
                self._context.counters.connections_refused[Refusal.SERVER_UNAVAILABLE] += 1
                self._send_connack(ConnectCode.SERVER_UNAVAILABLE)
            self._context.counters.disconnects[reason] += 1
            self._context.went(self, reason)
            self._context.wake(self)
