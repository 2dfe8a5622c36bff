"""MQTT clients: they remember what a client has to, and send again what they must.

A client with two devices is two of them with one client id, which know nothing of each other.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.simulation.kept.ledger import Delivery, Ledger, Violation, Wanted
from tests.support.links import Closed, Connack, Publish, Said, Suback, Told, Unsuback

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.sessions.ports import Answer, Link

PACKET_IDS = range(1, 4)
"""A publisher has few of them, so that they are used again and again."""


class Send(NamedTuple):
    """PUBLISH to the broker."""

    packet_id: int
    topic: str
    payload: bytes
    qos: int


class Subscribe(NamedTuple):
    """SUBSCRIBE to one filter."""

    packet_id: int
    topic_filter: str
    qos: int


class Unsubscribe(NamedTuple):
    """UNSUBSCRIBE of one filter."""

    packet_id: int
    topic_filter: str


class Disconnect(NamedTuple):
    """DISCONNECT."""


Packet = Send | Subscribe | Unsubscribe | Disconnect | Told


class Connection(Link):
    """A connection, with what is on its way in both directions; implements ``Link``.

    Attributes:
        edge: The edge at the other end.
        client_id: Whose it is.
        clean: It is a clean connection.
        starts_clean: It begins a new session.
        will: Its will.
        packets: From the client.
        said: To the client.
        client_open: The client has not gone.
        edge_open: The edge has not closed it.
        session: What the engine gave in return; None before CONNECT is handled.
        holds: How often it is held.
    """

    def __init__(
        self,
        edge: Any,
        client_id: str,
        ledger: Ledger,
        *,
        clean: bool,
        starts_clean: bool,
        will: Will | None,
    ) -> None:
        super().__init__()
        self.edge = edge
        self.client_id = client_id
        self.clean = clean
        self.starts_clean = starts_clean
        self.will = will
        self.packets: deque[Packet] = deque()
        self.said: deque[Said] = deque()
        self.client_open = self.edge_open = True
        self.session: Any = None
        self.holds = 0
        self._ledger = ledger

    # -- what the engine says ----------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """See ``Link``."""
        return self.holds > 0

    def hold(self) -> None:
        """See ``Link``."""
        self.holds += 1

    def resume(self) -> None:
        """See ``Link``."""
        self.holds -= 1
        assert self.holds >= 0

    def attached(self, session_present: bool) -> None:
        """See ``Link``."""
        self.said.append(Connack(session_present))

    def forward(self, run: MessageRun) -> None:
        """See ``Link``: nobody publishes or subscribes at QoS 0 here."""
        raise Violation(f"a: {self.client_id} is sent {run.payloads} at QoS 0")

    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See ``Link``: nothing is retained here."""
        raise Violation(f"d: {self.client_id} is sent {messages} as retained")

    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """See ``Link``."""
        self._ledger.cuts.pop(self.client_id, None)
        payloads = run.payloads[first : first + len(packet_ids)]
        topic = run.topic.decode()
        self.said += [
            Publish(topic, payload, qos, packet_id, dup)
            for payload, packet_id in zip(payloads, packet_ids, strict=True)
        ]

    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """See ``Link``."""
        self.said += [Told(kind, packet_id) for packet_id in packet_ids]

    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """See ``Link``."""
        self.said.append(Suback(packet_id, tuple(codes)))

    def unsubscribed(self, packet_id: int) -> None:
        """See ``Link``."""
        self.said.append(Unsuback(packet_id))

    def has_room(self) -> bool:
        """See ``Link``."""
        return len(self.said) < 7

    def close(self, reason: CloseReason) -> None:
        """See ``Link``."""
        self.edge_open = False
        self._ledger.note(f"closed: {reason.name.lower()}")


class Client:
    """One device.

    Attributes:
        client_id: Its id.
        connection: Its connection; None while it has none.
        is_up: CONNACK has come.
        log: What it received.
        wanted: Its subscriptions, all there ever were.
        generation: Which of its sessions it is at.
        wants_clean: It has asked for a new session, and does not know if it was heard.
        incarnation: Of the session that it knows of.
        unanswered: Packet id -> [message, its state] of publishes.
        answers: What it has to answer to deliveries.
    """

    def __init__(self, ledger: Ledger, client_id: str, *, is_second: bool = False) -> None:
        self.client_id = client_id
        self.is_second = is_second
        self.connection: Connection | None = None
        self.is_up = False
        self.log: list[Delivery] = []
        self.wanted: list[Wanted] = []
        self.generation = 0
        self.wants_clean = False
        self.incarnation: int | None = None
        self.unanswered: dict[int, tuple[int, bool]] = {}
        self.answers: deque[Told] = deque()
        self._ledger = ledger
        self._received: set[int] = set()
        self._pending: dict[int, Wanted] = {}
        self._last_id = 0

    def renew(self) -> None:
        """Forget the session: there is none any more."""
        self.unanswered.clear()
        self._received.clear()
        self.answers.clear()
        self._pending.clear()
        self.generation += 1
        self._end_wanted(self.wanted)

    def _end_wanted(self, wanted: Sequence[Wanted]) -> None:
        for each in wanted:
            each.ended = min(each.ended, self._ledger.step)

    # -- connections -------------------------------------------------------------------------------

    def connect(
        self, edge: Any, *, clean: bool, starts_clean: bool, will: Will | None
    ) -> Connection:
        """Connect, and leave the connection there is."""
        if self.connection is not None:
            self.drop()
        starts_clean = starts_clean or clean
        connection = self.connection = Connection(
            *(edge, self.client_id, self._ledger),
            clean=clean,
            starts_clean=starts_clean,
            will=will,
        )
        self.is_up = False
        self.answers.clear()
        self._pending.clear()
        if starts_clean:
            self.wants_clean = True
            self.renew()
        return connection

    def drop(self) -> None:
        """Leave the connection without a word."""
        connection = self.connection
        assert connection is not None
        if connection.clean:
            self.renew()
        connection.client_open = False
        self.connection = None
        self.is_up = False
        self.answers.clear()

    def leave(self) -> None:
        """Disconnect."""
        assert self.connection is not None
        self.connection.packets.append(Disconnect())
        self.drop()

    # -- what it sends -----------------------------------------------------------------------------

    def publish(self, topic: str, qos: int) -> bool:
        """Publish something, if it has a packet id."""
        free = [packet_id for packet_id in PACKET_IDS if packet_id not in self.unanswered]
        if not free:
            return False
        message = self._ledger.write(self.client_id, topic, qos)
        self.unanswered[free[0]] = message.number, False
        self._send(free[0], message.number)
        return True

    def _send(self, packet_id: int, number: int) -> None:
        assert self.connection is not None
        message = self._ledger.messages[number]
        packet = Send(packet_id, message.topic, message.payload(), message.qos)
        self.connection.packets.append(packet)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe to one filter."""
        assert self.connection is not None
        self._last_id += 1
        wanted = Wanted(
            topic_filter, self.generation, self._ledger.step, loose=self.connection.clean
        )
        self._pending[self._last_id] = wanted
        self.wanted.append(wanted)
        self.connection.packets.append(Subscribe(self._last_id, topic_filter, qos))

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe from one filter."""
        assert self.connection is not None
        self._last_id += 1
        self._end_wanted([each for each in self.wanted if each.topic_filter == topic_filter])
        self.connection.packets.append(Unsubscribe(self._last_id, topic_filter))

    def active_filters(self) -> list[str]:
        """Return what it has subscribed to."""
        never = self._ledger.step + 1
        return [each.topic_filter for each in self.wanted if each.ended > never]

    def answer(self) -> None:
        """Send one of the answers it owes."""
        assert self.connection is not None
        self.connection.packets.append(self.answers.popleft())

    # -- what it is told ---------------------------------------------------------------------------

    def receive(self) -> None:
        """Take the next packet."""
        assert self.connection is not None
        said = self.connection.said.popleft()
        match said:
            case Connack():
                self._begin(said.session_present)
            case Publish():
                self._take(said)
            case Told(Answer.PUBREL):
                self._received.discard(said.packet_id)
                self.answers.append(Told(Answer.PUBCOMP, said.packet_id))
            case Told():
                self._told(said)
            case Suback():
                wanted = self._pending.get(said.packet_id)
                if wanted is not None and wanted.held is None:
                    wanted.held = self._ledger.step
            case Unsuback() | Closed():
                pass

    def _begin(self, session_present: bool) -> None:
        connection = self.connection
        assert connection is not None
        self.is_up = True
        self.wants_clean = False
        if connection.starts_clean and session_present:
            raise Violation(f"s: {self.client_id} begins anew, and its session is present")
        # As the log says: who was not told of a new session in between cannot know.
        incarnation = self._ledger.incarnations[self.client_id, connection.session.epoch]
        if session_present != (incarnation < connection.session.epoch):
            raise Violation(f"s: {self.client_id} is told session present {session_present}")
        if self.incarnation not in {None, incarnation} and not connection.starts_clean:
            self.renew()
        self.incarnation = incarnation
        for packet_id, (number, is_received) in self.unanswered.items():
            if is_received:
                connection.packets.append(Told(Answer.PUBREL, packet_id))
            else:
                self._send(packet_id, number)

    def _take(self, said: Publish) -> None:
        if said.qos == 2:
            is_new = said.packet_id not in self._received
            self._received.add(said.packet_id)
            self.answers.append(Told(Answer.PUBREC, said.packet_id))
        else:
            is_new = True
            self.answers.append(Told(Answer.PUBACK, said.packet_id))
        if is_new:
            self.log.append(
                Delivery(
                    *(said.payload, said.topic, said.qos, said.dup),
                    *(self.generation, self._ledger.step),
                )
            )

    def _told(self, said: Told) -> None:
        """Its own publish goes on."""
        number, is_received = self.unanswered.get(said.packet_id, (0, False))
        if not number:
            return
        message = self._ledger.messages[number]
        if said.kind is Answer.PUBREC and message.qos == 2:
            message.acknowledged = True
            if not is_received:
                assert self.connection is not None
                self.unanswered[said.packet_id] = number, True
                self.connection.packets.append(Told(Answer.PUBREL, said.packet_id))
        elif said.kind is Answer.PUBACK and message.qos == 1:
            message.acknowledged = True
            del self.unanswered[said.packet_id]
        elif said.kind is Answer.PUBCOMP and is_received:
            del self.unanswered[said.packet_id]
