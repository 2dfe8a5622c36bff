"""Clients as MQTT demands them: they keep their session, repeat what is not acknowledged, and judge
what they are told against what they know.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from tests.simulation.ledger import Ledger, Message, Violation
from tests.support.mqtt_client_frames import (
    DISCONNECT,
    encode_connect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from tests.support.mqtt_peer import (
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    split_packet,
)

from monstermq_edge.mqtt.connection import Connection

OUTSTANDING_MAX = 5
"""Publishes a client has under way at once; small, so that packet ids are used again soon."""

SERVER_UNAVAILABLE = 3
"""The one code, beside 0, that a CONNACK may have here."""


@dataclass(slots=True, eq=False)
class Pipe:
    """One network connection: bytes under way in both directions, and who still holds its end.

    Attributes:
        clean: What its CONNECT said.
        will: The message its CONNECT left.
        connection: The broker's end.
        disconnecting: The client has sent DISCONNECT.
        floor: Topic -> offset of what was retained when the subscription began.
    """

    client: "Client"
    clean: bool
    will: Message | None
    connection: Connection | None = None
    to_broker: bytearray = field(default_factory=bytearray)
    to_client: bytearray = field(default_factory=bytearray)
    client_open: bool = True
    broker_open: bool = True
    told: bool = False
    disconnecting: bool = False
    floor: dict[str, int] | None = None


@dataclass(slots=True)
class Period:
    """How long a subscription held, as the client knows it."""

    topic_filter: str
    qos: int
    generation: int
    on: int | None = None
    ended: bool = False


@dataclass(slots=True)
class Request:
    """A SUBSCRIBE or UNSUBSCRIBE that has not been answered."""

    packet_id: int
    periods: list[Period]
    leaving: list[str]


@dataclass(slots=True)
class Receipt:
    """One PUBLISH as an application saw it: exactly-once repetitions are already taken out."""

    message: Message | None
    topic: str
    qos: int
    retain: bool
    generation: int
    pipe: Pipe


@dataclass(slots=True)
class Outgoing:
    """A publish under way: until PUBACK, or until PUBREC and then PUBCOMP."""

    message: Message
    released: bool = False


class World(Protocol):
    """What a client sees of the simulation."""

    random: Random
    ledger: Ledger
    step: int
    window: int

    def connect(self, pipe: Pipe) -> None:
        """Open a network connection to the broker."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What kind of client it is."""

    client_id: str
    persistent: bool = True
    publishes: bool = False
    subscribes: bool = False
    has_will: bool = False
    filters: tuple[str, ...] = ()


class Client:
    """One client: its session survives its connections, unless it is a clean one.

    Attributes:
        pipe: Its present connection.
        up: CONNACK has come on it.
        stalled: It does not acknowledge for a while.
        acks: What it will acknowledge, in order.
        out: Packet id -> publish under way.
        receiving: Packet id -> QoS 2 message that awaits PUBREL.
        generation: Counts sessions: a new one begins where the old one's state is lost.
        has_session: The broker holds a session of it; None where that is open.
        periods: Its subscriptions, also those that ended.
        receipts: What it got.
    """

    def __init__(self, world: World, role: Role) -> None:
        self.world = world
        self.role = role
        self.pipe: Pipe | None = None
        self.up = False
        self.stalled = False
        self.acks: deque[Packet] = deque()
        self.out: dict[int, Outgoing] = {}
        self.receiving: dict[int, Message | None] = {}
        self.generation = 0
        self.has_session: bool | None = False
        self.wants_clean = False
        self.periods: list[Period] = []
        self.receipts: list[Receipt] = []
        self.request: Request | None = None
        self._request_id = 0
        self._expected: deque[int] = deque()
        self._received_ids: deque[int] = deque()
        self._unanswered: dict[int, bytes] = {}

    # -- coming and going ------------------------------------------------------------------------

    def connect(self, *, clean: bool) -> None:
        """Open a connection and say CONNECT; a session that is to be discarded is given up now."""
        self._forget_connection()
        clean = clean or self.wants_clean or not self.role.persistent
        if clean:
            self.wants_clean = self.role.persistent
            self._lose_session()
        elif self.has_session is False:
            self.has_session = None
        will = self._make_will() if self.role.has_will else None
        self.pipe = Pipe(self, clean, will)
        self.world.connect(self.pipe)
        terms = None if will is None else (will.topic, will.payload, will.qos, will.retain)
        self._send(encode_connect(self.role.client_id, clean=clean, keep_alive_s=0, will=terms))

    def _make_will(self) -> Message:
        choice = self.world.random.choice
        topic = choice(("w/0", "w/1"))
        return self._write(topic, choice((1, 2)), retain=choice((True, False)), clear=False)

    def _lose_session(self) -> None:
        self.generation += 1
        self.out.clear()
        self.receiving.clear()
        self.has_session = None
        for period in self.periods:
            period.ended = True

    def _forget_connection(self) -> None:
        pipe = self.pipe
        if pipe is not None and pipe.told and pipe.will is not None and not pipe.disconnecting:
            pipe.will.acknowledged = True
        if pipe is not None and pipe.clean:
            # A clean session ends with its connection; one that was never told may not have begun.
            self._lose_session()
            self.has_session = False if pipe.told else None
        self.pipe = None
        self.up = False
        self.request = None
        self.acks.clear()
        self._expected.clear()
        self._received_ids.clear()
        self._unanswered.clear()

    def abandon(self) -> None:
        """Forget the connection without closing it, as a device that lost its network does."""
        self._forget_connection()

    def drop(self) -> None:
        """End the network connection without a word."""
        if self.pipe is not None:
            self.pipe.client_open = False
        self._forget_connection()

    def disconnect(self) -> None:
        """Say DISCONNECT, then end the network connection."""
        assert self.pipe is not None
        self._send(DISCONNECT)
        self.pipe.disconnecting = True
        self.drop()

    # -- what it does ----------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        assert self.pipe is not None
        self.pipe.to_broker += data

    def _write(self, topic: str, qos: int, *, retain: bool, clear: bool) -> Message:
        world = self.world
        return world.ledger.write(
            self.role.client_id,
            topic,
            qos,
            retain=retain,
            clear=clear,
            size=world.random.choice((0, 0, 3, 40)),
            step=world.step,
        )

    def publish(self, topic: str, qos: int, *, retain: bool = False, clear: bool = False) -> None:
        """Publish, if a packet id is free."""
        packet_id = 0
        if qos:
            free = [i for i in range(1, OUTSTANDING_MAX + 1) if i not in self.out]
            if not free:
                return
            packet_id = self.world.random.choice(free)
        message = self._write(topic, qos, retain=retain, clear=clear)
        if qos:
            self.out[packet_id] = Outgoing(message)
        self._transmit(packet_id, message, dup=False)

    def publish_last(self, topic: str, qos: int) -> None:
        """Publish whatever is under way; used when that is nothing, so ids suffice."""
        packet_id = next(i for i in range(1, 0x10000) if i not in self.out)
        message = self._write(topic, qos, retain=False, clear=False)
        self.out[packet_id] = Outgoing(message)
        self._transmit(packet_id, message, dup=False)

    def _transmit(self, packet_id: int, message: Message, *, dup: bool) -> None:
        if message.qos:
            self._expected.append(packet_id)
        self._send(
            encode_publish(
                message.topic,
                message.payload,
                qos=message.qos,
                packet_id=packet_id,
                retain=message.retain,
                dup=dup,
            )
        )

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        """Subscribe; one request at a time. QoS 0 ends what was promised for the filter."""
        self._request_id += 1
        periods = [Period(f, qos, self.generation) for f, qos in filters]
        self.request = Request(self._request_id, periods, [])
        for topic_filter, qos in filters:
            if not qos:
                self._end(topic_filter)
        self._send(encode_subscribe(self._request_id, filters))

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe; the subscription's promise ends now."""
        self._request_id += 1
        self.request = Request(self._request_id, [], [topic_filter])
        self._end(topic_filter)
        self._send(encode_unsubscribe(self._request_id, [topic_filter]))

    def _end(self, topic_filter: str) -> None:
        for period in self.periods:
            if period.topic_filter == topic_filter:
                period.ended = True

    def active_filters(self) -> list[str]:
        """Return the filters it is subscribed to, as far as it knows."""
        return [p.topic_filter for p in self.periods if not p.ended and p.on is not None]

    def acknowledge(self) -> None:
        """Send the acknowledgement that is due first."""
        packet = self.acks.popleft()
        assert isinstance(packet, Puback | Pubrec | Pubcomp)
        if isinstance(packet, Pubrec):
            self._received_ids.append(packet.packet_id)
        else:
            self._unanswered.pop(packet.packet_id, None)
        self._send(packet.encode())

    # -- what it is told -------------------------------------------------------------------------

    def read(self) -> None:
        """Take one packet off the network."""
        pipe = self.pipe
        assert pipe is not None
        packet = split_packet(pipe.to_client)
        assert packet is not None
        if not self.up and not isinstance(packet, Connack):
            raise Violation(f"h: {packet} before CONNACK")
        match packet:
            case Connack():
                self._connected(packet)
            case Publish():
                self._published(packet)
            case Puback() | Pubrec():
                self._acknowledged(packet)
            case Pubrel():
                self._released(packet.packet_id)
            case Pubcomp():
                self.out.pop(packet.packet_id, None)
            case Suback() | Unsuback():
                self._answered(packet)
            case _:
                raise Violation(f"{packet} was not asked for")

    def _connected(self, packet: Connack) -> None:
        pipe = self.pipe
        assert pipe is not None
        if packet.code:
            self._refused(packet)
            return
        known = False if pipe.clean else self.has_session
        if known is not None and packet.session_present is not known:
            raise Violation(f"f: session present {packet.session_present}, but it is {known}")
        self.up = pipe.told = True
        self.wants_clean = False
        if not pipe.clean:
            if not packet.session_present:
                self._lose_session()
            self.has_session = True
        for packet_id, outgoing in self.out.items():
            if outgoing.released:
                self._send(Pubrel(packet_id).encode())
            else:
                outgoing.message.transmissions += 1
                self._transmit(packet_id, outgoing.message, dup=True)

    def _refused(self, packet: Connack) -> None:
        """Too much waits for the disk: nothing of this CONNECT counts, the next one may do."""
        assert self.pipe is not None
        if packet.code != SERVER_UNAVAILABLE:
            raise Violation(f"{packet} was not asked for")
        if self.pipe.will is not None:
            self.pipe.will.revoked = True
        self.drop()

    def _published(self, packet: Publish) -> None:
        assert self.pipe is not None
        message = self.world.ledger.read(packet.payload)
        packet_id = packet.packet_id
        if packet.qos:
            self._check_packet_id(packet)
        fresh = packet.qos < 2 or packet_id not in self.receiving
        if packet.qos == 1:
            self.acks.append(Puback(packet_id))
        elif packet.qos == 2:
            self.acks.append(Pubrec(packet_id))
            if fresh:
                self.receiving[packet_id] = message
            elif self.receiving[packet_id] is not message:
                raise Violation(f"d: packet id {packet_id} used for another message before PUBREL")
        if fresh:
            self.receipts.append(
                Receipt(
                    message, packet.topic, packet.qos, packet.retain, self.generation, self.pipe
                )
            )

    def _check_packet_id(self, packet: Publish) -> None:
        unanswered = self._unanswered
        if packet.packet_id in unanswered:
            raise Violation(f"d: packet id {packet.packet_id} used again while in flight")
        unanswered[packet.packet_id] = packet.payload
        if len(unanswered) > self.world.window:
            raise Violation(f"j: {len(unanswered)} messages in flight to {self.role.client_id}")

    def _acknowledged(self, packet: Puback | Pubrec) -> None:
        packet_id = packet.packet_id
        if not self._expected or self._expected.popleft() != packet_id:
            raise Violation(f"g: {packet} is not in the order of PUBLISH")
        outgoing = self.out[packet_id]
        if isinstance(packet, Puback) is not (outgoing.message.qos == 1):
            raise Violation(f"g: {packet} for QoS {outgoing.message.qos}")
        outgoing.message.acknowledged = True
        if isinstance(packet, Puback):
            del self.out[packet_id]
        else:
            # PUBRELs are repeated in the order of the PUBRECs [MQTT-4.6.0-4].
            outgoing.released = True
            self.out[packet_id] = self.out.pop(packet_id)
            self._send(Pubrel(packet_id).encode())

    def _released(self, packet_id: int) -> None:
        received = self._received_ids
        if packet_id in received and received.popleft() != packet_id:
            raise Violation(f"g: PUBREL {packet_id} is not in the order of PUBREC")
        self.receiving.pop(packet_id, None)
        self._unanswered.setdefault(packet_id, b"")
        self.acks.append(Pubcomp(packet_id))

    def _answered(self, packet: Suback | Unsuback) -> None:
        assert self.request is not None
        assert packet.packet_id == self.request.packet_id
        periods = self.request.periods
        self.request = None
        for period in periods:
            self._end(period.topic_filter)
            period.on = self.world.step
            self.periods.append(period)

    # -- what it has seen ------------------------------------------------------------------------

    def counts(self) -> Counter[int]:
        """Return how often each message came in the present session."""
        return Counter(
            receipt.message.number
            for receipt in self.receipts
            if receipt.message is not None and receipt.generation == self.generation
        )
