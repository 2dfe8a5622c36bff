"""SIGKILL at random moments under load: what was acknowledged is there, and at QoS 2 once."""

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.broker import RunningBroker
from tests.support.ledger import Ledger, Message
from tests.support.load import Publisher, Subscriber
from tests.support.mqtt_peer import WAIT_S, ConnectOptions, Peer, Publish

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20"))

CONFIG = """
ArchiveGroups:
  - Name: MCP
    TopicFilter: ["#"]
    LastValType: SQLITE
    ArchiveType: SQLITE
"""

PACKETS_MAX = (30, 300, 3_000, 10_000)
"""A round ends after at most so many packets: in the middle of connecting, or of full load."""

RETAINED_TOPICS = 7

ROUND_S = 30.0
SETTLE_S = 60.0
"""How long the broker may take to deliver all it owes."""


class Run:
    """Publishers and subscribers around one broker, and the account of it all."""

    def __init__(self, directory: Path) -> None:
        self.broker = RunningBroker(directory)
        self.ledger = Ledger()
        self.publishers = [self._publisher(qos, number) for qos in (1, 2) for number in range(2)]
        self.publishers += [self._retaining_publisher(qos) for qos in (1, 2)]
        self.subscribers = [
            Subscriber(f"sub{qos}-{number}", self.ledger, "load/#", qos)
            for qos in (1, 2)
            for number in range(2)
        ]
        self.newcomers: list[Subscriber] = []

    def _publisher(self, qos: int, number: int) -> Publisher:
        name = f"pub{qos}-{number}"

        def make(n: int) -> Message:
            return Message(f"load/{name}/{n % 3}", f"{name} {n}".encode(), qos)

        return Publisher(name, self.ledger, make)

    def _retaining_publisher(self, qos: int) -> Publisher:
        name = f"ret{qos}"

        def make(n: int) -> Message:
            topic = f"load/retained/{qos}/{n % RETAINED_TOPICS}"
            return Message(topic, f"{name} {n}".encode(), qos, retain=True)

        return Publisher(name, self.ledger, make)

    async def begin(self) -> None:
        """Subscribe everybody, before anything is published."""
        self.broker.start(CONFIG)
        await self.connect(self.subscribers)
        await self.ledger.until(lambda: all(s.subscribed for s in self.subscribers), WAIT_S)

    async def connect(self, clients: list[Subscriber] | list[Publisher]) -> None:
        """Connect clients, all at once."""
        await asyncio.gather(*(client.connect(self.broker.tcp_port) for client in clients))

    async def play_round(self, rng: random.Random) -> None:
        """Start the broker again, load it, kill it."""
        self.broker.start(CONFIG)
        await self.check_retained()
        newcomer = Subscriber(
            f"newcomer{len(self.newcomers)}", Ledger(), f"newcomer/{len(self.newcomers)}", 1
        )
        self.newcomers.append(newcomer)
        present = [s for s in self.subscribers if rng.random() < 0.75]
        begun = asyncio.gather(
            self.connect(present), self.connect(self.publishers), self.connect([newcomer])
        )
        await self.ledger.packets(rng.randint(1, rng.choice(PACKETS_MAX)), ROUND_S)
        self.broker.kill()
        await begun
        self.ledger.assert_kept()

    async def settle(self) -> None:
        """Bring everybody back, publish nothing new, and wait until nobody is owed anything."""
        self.broker.start(CONFIG)
        for publisher in self.publishers:
            publisher.stop()
        await self.connect(self.subscribers)
        await self.connect(self.publishers)
        await self.ledger.until(
            lambda: all(p.idle for p in self.publishers) and self.ledger.all_delivered(), SETTLE_S
        )
        self.ledger.assert_kept()

    async def check_retained(self) -> None:
        """Assert that a new subscription gets nothing older than what was acknowledged last."""
        floor = self.ledger.retained_floor()
        reader = await Peer.open(self.broker.tcp_port)
        await reader.connect("reader")
        await reader.subscribe(("load/retained/#", 0))
        seen: dict[str, bytes] = {}
        while not floor.keys() <= seen.keys():
            message = await reader.receive()
            assert message.retain, f"{message} while nobody publishes"
            seen[message.topic] = message.payload
        reader.drop()
        self.ledger.assert_retained(floor, seen)

    async def check_newcomers(self) -> None:
        """Assert that every subscription that got its SUBACK survived."""
        publisher = await Peer.open(self.broker.tcp_port)
        await publisher.connect("postman")
        for newcomer in self.newcomers:
            if newcomer.subscribed:
                number = newcomer.client_id.removeprefix("newcomer")
                await publisher.publish(f"newcomer/{number}", b"welcome", qos=1)
                peer = await Peer.open(self.broker.tcp_port)
                connack = await peer.connect(newcomer.client_id, ConnectOptions(clean=False))
                assert connack.session_present, newcomer.client_id
                assert await peer.take() == Publish(f"newcomer/{number}", b"welcome", qos=1)
                peer.drop()
        publisher.drop()

    def check_database(self) -> None:
        """Assert that the tables of a killed broker hold what they should."""
        path = self.broker.directory / "monstermq.db"
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = database.execute(
                "SELECT payload_blob FROM mcparchive WHERE topic LIKE 'load/%'"
            ).fetchall()
            self.ledger.assert_archived(payload for (payload,) in rows)
            retained = dict(
                database.execute(
                    "SELECT topic, payload_blob FROM retainedmessages WHERE topic LIKE 'load/%'"
                )
            )
            last_values = dict(
                database.execute(
                    "SELECT topic, payload_blob FROM mcplastval WHERE topic LIKE 'load/retained/%'"
                )
            )
        last_writes = {topic: payloads[-1] for topic, payloads in self.ledger.retained.items()}
        assert retained == last_writes
        assert last_values == last_writes


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """A run whose broker is ended in any case."""
    run = Run(tmp_path)
    yield run
    run.broker.close()
    for client in (*run.publishers, *run.subscribers, *run.newcomers):
        await client.drop()


async def test_nothing_acknowledged_is_lost_or_doubled_by_kills(run: Run) -> None:
    rng = random.Random(ROUNDS)
    await run.begin()
    run.broker.kill()
    for _ in range(ROUNDS):
        await run.play_round(rng)
    await run.settle()
    await run.check_retained()
    await run.check_newcomers()
    run.broker.kill()
    run.check_database()
    print(run.ledger.summary())
