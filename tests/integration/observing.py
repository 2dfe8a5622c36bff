"""What a broker shows to its operator, and whether its other clients notice anything."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.support.broker import LOOPBACK, BrokerProcess
from tests.support.mqtt_peer import WAIT_S, Peer, Publish

MIB = 1 << 20


async def fetch(broker: BrokerProcess, path: str) -> tuple[int, str]:
    """Ask the operator's port; return status and body."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, broker.metrics_port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        await writer.wait_closed()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def until_ready(broker: BrokerProcess, status: int, within_s: float = 60.0) -> str:
    """Ask ``/ready`` until it answers with this status; return the body.

    Raises:
        TimeoutError: It did not; says what it answered last.
    """
    body = ""
    try:
        async with asyncio.timeout(within_s):
            while True:
                found, body = await fetch(broker, "/ready")
                if found == status:
                    return body
    except TimeoutError:
        raise TimeoutError(f"/ready of {broker.directory.name} says {body}") from None


async def until_logged(process: BrokerProcess, words: str, within_s: float = 60.0) -> None:
    """Return once the log has the words."""
    async with asyncio.timeout(within_s):
        while words not in process.log_text():
            await asyncio.to_thread(process.has_ended, within_s=0.1)


async def metric(broker: BrokerProcess, name: str, **labels: str) -> float:
    """Return a sample of ``/metrics``."""
    _, text = await fetch(broker, "/metrics")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    raise AssertionError(f"no metric {name} {labels}")


async def until_metric(
    broker: BrokerProcess, name: str, at_least: float, within_s: float = WAIT_S, **labels: str
) -> None:
    """Read a metric until it is at least so much."""
    async with asyncio.timeout(within_s):
        while await metric(broker, name, **labels) < at_least:
            pass


def resident_bytes(broker: BrokerProcess) -> int:
    """Return the memory of the broker's process."""
    size: int = psutil.Process(broker.pid).memory_info().rss
    return size


class Neighbours:
    """Two well-behaved clients that talk to each other while others misbehave."""

    _names = (f"neighbours/{number}" for number in itertools.count())

    def __init__(self, sender: Peer, receiver: Peer, topic: str) -> None:
        self._sender = sender
        self._receiver = receiver
        self._topic = topic
        self._numbers = itertools.count()

    @classmethod
    async def settle_in(cls, broker: BrokerProcess) -> "Neighbours":
        """Connect both."""
        topic = next(cls._names)
        sender, receiver = await Peer.open(broker.tcp_port), await Peer.open(broker.tcp_port)
        await sender.connect(f"{topic} sender")
        await receiver.connect(f"{topic} receiver")
        await receiver.subscribe((topic, 2))
        return cls(sender, receiver, topic)

    async def exchange(self) -> None:
        """Send a message at each QoS and see it arrive; each wait has a bound."""
        for qos in range(3):
            payload = str(next(self._numbers)).encode()
            await self._sender.publish(self._topic, payload, qos)
            assert await self._receiver.take() == Publish(self._topic, payload, qos)

    def move_out(self) -> None:
        """Drop both connections."""
        self._sender.drop()
        self._receiver.drop()


@asynccontextmanager
async def undisturbed(broker: BrokerProcess, *, growth_mib: int = 20) -> AsyncIterator[Neighbours]:
    """Assert that two other clients notice nothing, and that memory stays bounded.

    They talk before and after; the block may let them talk in between.
    """
    neighbours = await Neighbours.settle_in(broker)
    try:
        await neighbours.exchange()
        before = resident_bytes(broker)
        yield neighbours
        await neighbours.exchange()
        grown = resident_bytes(broker) - before
        assert grown < growth_mib * MIB, f"the broker has grown by {grown / MIB:.1f} MiB"
    finally:
        neighbours.move_out()
