"""Clean clients: a session ends with its connection, and nothing is ever sent a second time.

So whatever is in the log twice was doubled by a broker. What a subscriber gets in one connection
is noted as its stay, to be compared with the log when that is known.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.ledger import Ledger, Message
from tests.support.load import PACKET_ID_MAX, Client
from tests.support.mqtt_client_frames import (
    DISCONNECT,
    PINGREQ,
    encode_publish,
    encode_subscribe,
)
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Packet,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Will,
)

WINDOW = 5
"""Messages a publisher has unacknowledged at a time; as many are sent between two PINGREQs."""

PACE_S = 0.01
"""Between an acknowledgement and the next message: tables should not become larger than needed."""

WILLS = "wills/"
"""What topics of wills begin with; the client's id follows."""


@dataclass(slots=True)
class Connection:
    """One connection of a client, as far as its will is concerned.

    Attributes:
        will: The will's payload, unlike all others.
        accepted: CONNACK said yes.
        ended: The connection is gone.
        said_goodbye: DISCONNECT was sent before.
        edge_stopped: Its edge was told to stop, and hands its clients over to others, if it can.
    """

    will: bytes
    accepted: bool = False
    ended: bool = False
    said_goodbye: bool = False
    edge_stopped: bool = False


class Mobile(Client):
    """A client that comes and goes between edges; whatever it is otherwise, it has a will.

    Attributes:
        connections: All it had, the present one last.
        port: Where it connected last.
        refused: How often CONNACK said no.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: list[Connection] = []
        self.port = 0
        self.refused = 0

    async def connect(self, port: int) -> None:
        """See ``Client.connect``."""
        self.port = port
        await super().connect(port)

    @property
    def is_served(self) -> bool:
        """Whether it is connected, and CONNACK came."""
        return self.is_connected and self.connections[-1].accepted

    async def leave(self) -> None:
        """Say DISCONNECT, and return once the connection has ended."""
        if self._line is not None:
            self.connections[-1].said_goodbye = True
            self._send(DISCONNECT)
            await self.gone()

    def edge_stops(self) -> None:
        """The edge that it is on, or is just leaving, is told to stop.

        Until its next connection is accepted, that may hand over the one before.
        """
        for connection in reversed(self.connections):
            connection.edge_stopped = True
            if connection.accepted:
                return

    def _next_will(self, qos: int) -> Will:
        """A connection begins; return its will, unlike all others."""
        will = f"{self.client_id} will {len(self.connections)}".encode()
        self.connections.append(Connection(will))
        return Will(topic=f"{WILLS}{self.client_id}", payload=will, qos=qos)

    def _gone(self) -> None:
        self.connections[-1].ended = True


class CleanClient(Mobile):
    """A client with CleanSession 1."""

    def __init__(self, client_id: str, ledger: Ledger, will_qos: int = 1) -> None:
        super().__init__(client_id, ledger)
        self._will_qos = will_qos

    def _options(self) -> ConnectOptions:
        return ConnectOptions(will=self._next_will(self._will_qos))

    def _welcome(self, connack: Connack) -> None:
        if connack.session_present:
            self.ledger.violation(f"{self.client_id}: a clean session that was there before")
        if connack.code:
            self.refused += 1
            return
        self.connections[-1].accepted = True
        self._begin()

    def _gone(self) -> None:
        super()._gone()
        self._end()

    def _begin(self) -> None:
        """A session has begun."""

    def _end(self) -> None:
        """The session has ended."""

    def _handle(self, packet: Packet) -> None:
        raise AssertionError(f"{self.client_id} got {packet}")


class CleanPublisher(CleanClient):
    """Publishes, and gives up what a lost connection leaves unacknowledged.

    Args:
        client_id: Who it is.
        ledger: Where it says what it sends, and what is acknowledged.
        make_message: Makes message n.

    Attributes:
        acknowledged: How many of its messages were.
        sent_in: Payload -> the number of the session in which it was sent.
    """

    def __init__(
        self, client_id: str, ledger: Ledger, make_message: Callable[[int], Message]
    ) -> None:
        super().__init__(client_id, ledger, make_message(0).qos)
        self.acknowledged = 0
        self.sent_in: dict[bytes, int] = {}
        self._make_message = make_message
        self._made = 0
        self._last_id = 0
        self._stopped = False
        self._session = 0
        self._exchanges: dict[int, Message] = {}
        self._pings = 0

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    @property
    def idle(self) -> bool:
        """Whether everything that was sent in this connection has been answered."""
        return not self._exchanges and not self._pings

    def _begin(self) -> None:
        for _ in range(WINDOW):
            self._next(self._session)

    def _end(self) -> None:
        self._session += 1
        self._exchanges.clear()
        self._pings = 0

    def _soon(self) -> None:
        asyncio.get_running_loop().call_later(PACE_S, self._next, self._session)

    def _next(self, session: int) -> None:
        if self._stopped or session != self._session:
            return
        message = self._make_message(self._made)
        self._made += 1
        self.ledger.send(message)
        self.sent_in[message.payload] = session
        if message.qos == 0:
            # The answer to the PINGREQ shows that the broker has read what stands before it.
            self._send(encode_publish(message.topic, message.payload, retain=message.retain))
            self._pings += 1
            self._send(PINGREQ)
            return
        self._last_id = self._last_id % PACKET_ID_MAX + 1
        self._exchanges[self._last_id] = message
        self._send(
            encode_publish(
                message.topic,
                message.payload,
                qos=message.qos,
                packet_id=self._last_id,
                retain=message.retain,
            )
        )

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Puback(packet_id):
                self.acknowledged += 1
                self.ledger.acknowledge(self._exchanges.pop(packet_id))
                self._soon()
            case Pubrec(packet_id):
                self.acknowledged += 1
                self.ledger.acknowledge(self._exchanges[packet_id])
                self._send(Pubrel(packet_id).encode())
            case Pubcomp(packet_id):
                del self._exchanges[packet_id]
                self._soon()
            case Pingresp():
                self._pings -= 1
                self._soon()
            case _:
                super()._handle(packet)


@dataclass(slots=True)
class Stay:
    """What a subscriber got in one connection.

    Attributes:
        client_id: Whose.
        qos: Of its subscription.
        prefix: What the topics of its subscription begin with.
        since: How many messages had been sent by anybody when SUBACK came; None before.
        retained: Payloads that came as retained ones, by topic.
        live: All others, in order, by topic.
        missing: What has to come yet, once somebody has asked for it.
        ended: The connection is gone.
    """

    client_id: str
    qos: int
    prefix: str
    since: int | None = None
    retained: dict[str, list[bytes]] = field(default_factory=dict)
    live: dict[str, list[bytes]] = field(default_factory=dict)
    missing: set[bytes] = field(default_factory=set)
    ended: bool = False

    def take(self, packet: Publish) -> None:
        """Note a message that counts."""
        part = self.retained if packet.retain else self.live
        part.setdefault(packet.topic, []).append(packet.payload)
        self.missing.discard(packet.payload)

    def expect(self, ledger: Ledger) -> None:
        """Note what has to come: all that was acknowledged, and was sent after the SUBACK."""
        assert self.since is not None
        if not self.qos:
            return
        came = {payload for payloads in self.live.values() for payload in payloads}
        self.missing = {
            payload
            for payload in ledger.acknowledged
            if ledger.number_of(payload) >= self.since
            and payload not in came
            and ledger.sent[payload].topic.startswith(self.prefix)
        }

    def check(self, log: Mapping[str, Sequence[bytes]], ledger: Ledger) -> None:
        """Assert that it is a part of the log, without a hole where there may be none.

        Args:
            log: Topic -> the payloads of the records that count, in order.
            ledger: What was sent, and when.
        """
        for topic, payloads in self.live.items():
            places = {payload: place for place, payload in enumerate(log.get(topic, ()))}
            unknown = [payload for payload in payloads if payload not in places]
            assert not unknown, f"{self.client_id} got what is not in the log: {unknown[:5]}"
            got = [places[payload] for payload in payloads]
            assert got == sorted(set(got)), f"{self.client_id}: {topic} is not in the log's order"
        if not self.qos or self.since is None:
            return
        for topic, counted in log.items():
            if not topic.startswith(self.prefix):
                continue
            first = ledger.sent.get(counted[0])
            if first is not None and first.qos:
                self._check_whole(topic, counted, ledger)

    def _check_whole(self, topic: str, counted: Sequence[bytes], ledger: Ledger) -> None:
        """Assert that nothing is left out between the SUBACK and the end of the connection."""
        assert self.since is not None
        got = self.live.get(topic, [])
        owed = [
            place
            for place, payload in enumerate(counted)
            if ledger.number_of(payload) >= self.since
        ]
        if not got:
            assert not owed or self.ended, f"{self.client_id} got nothing on {topic}"
            return
        first = counted.index(got[0])
        assert not owed or first <= owed[0], f"{self.client_id}: {topic} begins late"
        expected = list(counted[first:] if not self.ended else counted[first : first + len(got)])
        assert got == expected, (
            f"{self.client_id}: {topic} has a hole: {got[-5:]} instead of {expected[-5:]}"
        )


class CleanSubscriber(CleanClient):
    """Takes everything that matches its filter.

    Attributes:
        stays: What it got, per connection in which SUBSCRIBE was sent.
    """

    def __init__(self, client_id: str, ledger: Ledger, topic_filter: str, qos: int) -> None:
        super().__init__(client_id, ledger, qos)
        self.stays: list[Stay] = []
        self._filter = topic_filter
        self._qos = qos
        self._open_ids: set[int] = set()

    @property
    def is_subscribed(self) -> bool:
        """Whether SUBACK has come in this connection."""
        return self.is_served and self.stays[-1].since is not None

    def _begin(self) -> None:
        self._open_ids.clear()
        prefix = self._filter.partition("#")[0]
        self.stays.append(Stay(self.client_id, self._qos, prefix))
        self._send(encode_subscribe(1, [(self._filter, self._qos)]))

    def _end(self) -> None:
        if self.stays:
            self.stays[-1].ended = True

    def _handle(self, packet: Packet) -> None:
        stay = self.stays[-1]
        match packet:
            case Suback(_, codes):
                assert codes == (self._qos,)
                stay.since = len(self.ledger.sent)
            case Publish():
                self._take(stay, packet)
            case Pubrel(packet_id):
                self._open_ids.discard(packet_id)
                self._send(Pubcomp(packet_id).encode())
            case _:
                super()._handle(packet)

    def _take(self, stay: Stay, packet: Publish) -> None:
        if packet.dup:
            self.ledger.violation(f"{self.client_id}: DUP in a clean session, {packet}")
        if packet.qos < 2:
            stay.take(packet)
            if packet.qos:
                self._send(Puback(packet.packet_id).encode())
            return
        if packet.packet_id not in self._open_ids:
            self._open_ids.add(packet.packet_id)
            stay.take(packet)
        self._send(Pubrec(packet.packet_id).encode())


def assert_wills(clients: Iterable[Mobile], in_log: Mapping[bytes, int]) -> None:
    """Assert that each will that was due is in the log once, and no other.

    Args:
        clients: Whose.
        in_log: Payload -> how often it counts in the log.
    """
    for client in clients:
        for connection in client.connections:
            found = in_log.get(connection.will, 0)
            if not connection.accepted or connection.edge_stopped:
                assert found <= 1, f"{connection.will!r} is there {found} times"
                continue
            due = connection.ended and not connection.said_goodbye
            assert found == due, f"{connection.will!r} is there {found} times, not {due:d}"
