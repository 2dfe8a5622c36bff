"""Random dialogues of two clients with a broker, to be had with two brokers and compared.

A dialogue is drawn from a seed: who connects and how, subscribes, publishes, leaves, or falls off
the network. After every step both clients are asked for all they have heard. Where the standard
leaves a choice, the choice is taken out: packet ids are not compared, order only within a topic
and QoS; and all filters of a client have one QoS, since mosquitto takes the QoS of any of the
filters that match, not the highest [MQTT-3.3.5-1].
"""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Self

from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Packet,
    Peer,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
)

CLIENTS = ("anna", "bert")
TOPICS = ("x", "x/y", "x/z", "y", "$x/y")
FILTERS = ("#", "+", "x/#", "x/+", "x/y", "+/y", "y", "$x/#")


class Habit(Enum):
    """How a connection answers what it is sent."""

    PROMPT = "answers everything"
    SILENT = "answers nothing"
    HALF = "answers PUBREL with silence"


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect, with a will that shows the others when the connection was lost."""

    who: str
    clean: bool
    habit: Habit


@dataclass(frozen=True, slots=True)
class Leave:
    """End the connection, with DISCONNECT or without a word."""

    who: str
    graceful: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to one filter."""

    who: str
    topic_filter: str
    qos: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from one filter, which may not be there."""

    who: str
    topic_filter: str


@dataclass(frozen=True, slots=True)
class Say:
    """Publish one message and see the exchange through."""

    who: str
    topic: str
    payload: bytes
    qos: int
    retain: bool


Step = Connect | Leave | Subscribe | Unsubscribe | Say


def dialogue(seed: int, steps: int) -> Iterator[Step]:
    """Draw the steps of a dialogue; each is one its client can take at that point."""
    prng = random.Random(seed)
    granted = {who: prng.randrange(3) for who in CLIENTS}
    connected: set[str] = set()
    for number in range(steps):
        who = prng.choice(CLIENTS)
        if who not in connected:
            connected.add(who)
            yield Connect(who, prng.random() < 0.3, prng.choice([*Habit]))
            continue
        kind = prng.choices(("say", "subscribe", "unsubscribe", "leave"), (6, 3, 1, 2))[0]
        if kind == "say":
            payload = b"" if prng.random() < 0.15 else str(number).encode()
            yield Say(who, prng.choice(TOPICS), payload, prng.randrange(3), prng.random() < 0.3)
        elif kind == "subscribe":
            yield Subscribe(who, prng.choice(FILTERS), granted[who])
        elif kind == "unsubscribe":
            yield Unsubscribe(who, prng.choice(FILTERS))
        else:
            connected.discard(who)
            yield Leave(who, prng.random() < 0.5)


class Conversation:
    """A dialogue as it is had with one broker."""

    def __init__(self, port: int, prefix: str, observer: Peer) -> None:
        self._port = port
        self._prefix = prefix
        self._observer = observer
        self._peers: dict[str, Peer] = {}
        self._habits: dict[str, Habit] = {}

    @classmethod
    async def begin(cls, port: int, prefix: str) -> Self:
        """Meet the broker; ``prefix`` keeps the topics and ids of dialogues apart."""
        observer = await Peer.open(port)
        await observer.connect(f"{prefix}observer")
        await observer.subscribe((f"{prefix}/lost/#", 0))
        return cls(port, prefix, observer)

    async def take(
        self, step: Step, expected: dict[str, list[Packet]] | None = None
    ) -> dict[str, list[Packet]]:
        """Take one step and return what each client heard because of it.

        Args:
            step: What happens.
            expected: What the other broker said. This one is waited for until it has said as
                much, since it may need its database for it; what it says beyond that, now or
                before the next step, is heard too.
        """
        heard: dict[str, list[Packet]] = {}
        match step:
            case Connect():
                heard[step.who] = [await self._connect(step)]
            case Leave():
                await self._leave(step)
            case Subscribe():
                codes = await self._peers[step.who].subscribe(
                    (self._scoped(step.topic_filter), step.qos)
                )
                assert codes == (step.qos,)
            case Unsubscribe():
                await self._peers[step.who].unsubscribe(self._scoped(step.topic_filter))
            case Say():
                await self._peers[step.who].publish(
                    self._scoped(step.topic), step.payload, step.qos, retain=step.retain
                )
        for who in self._peers:
            before = heard.get(who, [])
            at_least = len(expected[who]) - len(before) if expected else 0
            heard[who] = before + sorted(await self._listen(who, at_least), key=_order_key)
        return heard

    def end(self) -> None:
        """Drop all connections."""
        for peer in (self._observer, *self._peers.values()):
            peer.drop()

    def _scoped(self, topic: str) -> str:
        """Move a topic or filter below the prefix; one that begins with $ keeps doing so."""
        if topic.startswith("$"):
            return f"${self._prefix}{topic[1:]}"
        return f"{self._prefix}/{topic}"

    async def _connect(self, step: Connect) -> Connack:
        peer = self._peers[step.who] = await Peer.open(self._port)
        self._habits[step.who] = step.habit
        will = Will(topic=f"{self._prefix}/lost/{step.who}")
        return await peer.connect(
            self._prefix + step.who, ConnectOptions(clean=step.clean, will=will)
        )

    async def _leave(self, step: Leave) -> None:
        peer = self._peers.pop(step.who)
        if step.graceful:
            await peer.disconnect()
            return
        peer.drop()
        assert await self._observer.take() == Publish(f"{self._prefix}/lost/{step.who}", b"gone")

    async def _listen(self, who: str, at_least: int) -> list[Packet]:
        """Return all that a client is sent until it is quiet, answered as is its habit."""
        peer = self._peers[who]
        heard: list[Packet] = []
        with contextlib.suppress(TimeoutError):  # then it is less, and the comparison shows it
            while len(heard) < at_least:
                heard.append(await self._hear(who, await peer.read_packet()))
        while came := await peer.ping():
            heard += [await self._hear(who, packet) for packet in came]
        return heard

    async def _hear(self, who: str, packet: Packet) -> Packet:
        answer = _answer(packet, self._habits[who])
        if answer:
            await self._peers[who].send(answer)
        return packet


def _answer(packet: Packet, habit: Habit) -> bytes:
    if habit is Habit.SILENT:
        return b""
    match packet:
        case Publish(qos=1):
            return Puback(packet.packet_id).encode()
        case Publish(qos=2):
            return Pubrec(packet.packet_id).encode()
        case Pubrel() if habit is Habit.PROMPT:
            return Pubcomp(packet.packet_id).encode()
        case _:
            return b""


def _order_key(packet: Packet) -> tuple[str, str, int]:
    """Sort by kind, topic and QoS; the order within these is the broker's duty, and kept."""
    if isinstance(packet, Publish):
        return "PUBLISH", packet.topic, packet.qos
    return type(packet).__name__, "", 0


def without_ids(heard: dict[str, list[Packet]]) -> dict[str, list[Packet]]:
    """Blank the packet ids, which are the broker's choice."""
    return {
        who: [Pubrel(0) if isinstance(packet, Pubrel) else packet for packet in packets]
        for who, packets in heard.items()
    }
