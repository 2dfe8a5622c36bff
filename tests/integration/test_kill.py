"""SIGKILL at random moments under load: what was acknowledged is there, and at QoS 2 once."""

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.support.broker import RunningBroker
from tests.support.chance import drawn_random
from tests.support.ledger import Ledger, Message
from tests.support.load import Cast, Subscriber
from tests.support.mqtt_peer import ConnectOptions, Publish

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


def message_maker(name: str, qos: int) -> Callable[[int], Message]:
    """Make the messages of a publisher, each unlike all others."""

    def make(n: int) -> Message:
        return Message(f"load/{name}/{n % 3}", f"{name} {n}".encode(), qos)

    return make


def retained_maker(name: str, qos: int) -> Callable[[int], Message]:
    """Make retained messages on a few topics that nobody else writes to."""

    def make(n: int) -> Message:
        topic = f"load/retained/{name}/{n % RETAINED_TOPICS}"
        return Message(topic, f"{name} {n}".encode(), qos, retain=True)

    return make


class Run:
    """A broker under kills, its load, and subscriptions that were made shortly before one."""

    def __init__(self, broker: RunningBroker, cast: Cast) -> None:
        self.broker = broker
        self.cast = cast
        self.ledger = cast.ledger
        self.newcomers: list[Subscriber] = []
        for qos in (1, 2):
            for name in (f"pub{qos}-a", f"pub{qos}-b"):
                cast.add_publisher(name, message_maker(name, qos))
            cast.add_publisher(f"ret{qos}", retained_maker(f"ret{qos}", qos))
            for name in (f"sub{qos}-a", f"sub{qos}-b"):
                cast.add_subscriber(name, "load/#", qos)

    async def play_round(self, rng: random.Random) -> None:
        """Start the broker again, load it, kill it."""
        port = self.broker.start(CONFIG).tcp_port
        await self.check_retained()
        number = len(self.newcomers)
        newcomer = Subscriber(f"newcomer{number}", Ledger(), f"newcomer/{number}", 1)
        self.newcomers.append(newcomer)
        present = [s for s in self.cast.subscribers if rng.random() < 0.75]
        begun = asyncio.create_task(
            self.cast.connect(port, [*present, *self.cast.publishers, newcomer])
        )
        await self.ledger.packets(rng.randint(1, rng.choice(PACKETS_MAX)), ROUND_S)
        self.broker.kill()
        await begun
        await self.cast.gone()
        await newcomer.gone()
        self.ledger.assert_kept()

    async def check_retained(self) -> None:
        """Assert that a new subscription gets nothing older than what was acknowledged last."""
        floor = self.ledger.retained_floor()
        reader = await self.cast.peer(self.broker.tcp_port)
        await reader.connect("reader")
        await reader.subscribe(("load/retained/#", 0))
        seen: dict[str, bytes] = {}
        while not floor.keys() <= seen.keys():
            message = await reader.receive()
            assert message.retain, f"{message} while nobody publishes"
            seen[message.topic] = message.payload
        reader.drop()  # what is retained beside may still be on its way
        self.ledger.assert_retained(floor, seen)

    async def check_newcomers(self) -> None:
        """Assert that every subscription that got its SUBACK survived."""
        publisher = await self.cast.peer(self.broker.tcp_port)
        await publisher.connect("postman")
        for number, newcomer in enumerate(self.newcomers):
            if newcomer.subscribed:
                await publisher.publish(f"newcomer/{number}", b"welcome", qos=1)
                peer = await self.cast.peer(self.broker.tcp_port)
                connack = await peer.connect(newcomer.client_id, ConnectOptions(clean=False))
                assert connack.session_present, newcomer.client_id
                assert await peer.take() == Publish(f"newcomer/{number}", b"welcome", qos=1)

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


async def test_nothing_acknowledged_is_lost_or_doubled_by_kills(
    broker: RunningBroker, cast: Cast
) -> None:
    run, rng = Run(broker, cast), drawn_random()
    await cast.subscribe(broker.start(CONFIG).tcp_port)
    broker.kill()
    await cast.gone()
    for _ in range(ROUNDS):
        await run.play_round(rng)
    await cast.settle(broker.start(CONFIG).tcp_port, SETTLE_S)
    await run.check_retained()
    await run.check_newcomers()
    broker.kill()
    run.check_database()
    print(run.ledger.summary())
