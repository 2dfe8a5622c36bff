"""One scene for every fault on a Kafka bus: edges and projectors under load, and what must hold.

Whatever was acknowledged is in the log, once; what subscribers got is the log; every will that was
due is there once; and the tables are what follows from the log.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg
from tests.integration.observing import until_ready
from tests.support.clean_load import (
    WILLS,
    CleanPublisher,
    CleanSubscriber,
    Mobile,
    assert_wills,
)
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import EdgeProcess, KafkaStack
from tests.support.ledger import Ledger, Message
from tests.support.load import message_maker, retained_maker
from tests.support.log_reading import ROWS, Fold, LogReader, Row
from tests.support.postgres import PostgresServer

READY_S = 60.0
LOAD_S = 60.0
LOG_SIZE = 8_000
SETTLE_S = 90.0
"""How long all that is owed may take, once the fault is over."""

_MARKS = """
SELECT projection, partition, reflected FROM watermarks
JOIN generations ON number = watermarks.generation
WHERE generations.generation = $1 AND reflected IS NOT NULL
"""


class KafkaScene:
    """A stack and everybody around it.

    Args:
        stack: Not yet started.
        cluster_id: Kafka's.
        rng: Who decides what is left to chance.

    Attributes:
        ledger: What was sent and acknowledged.
        publishers: Of each QoS.
        subscribers: Of each QoS.
        rng: As above.
        strangers: Partition and offset of what is on the bus and is no record.
    """

    def __init__(self, stack: KafkaStack, cluster_id: str, rng: random.Random) -> None:
        self.stack = stack
        self.ledger = Ledger()
        self.strangers: set[tuple[int, int]] = set()
        self.publishers: list[CleanPublisher] = []
        self.subscribers: list[CleanSubscriber] = []
        self._generation = f"kafka:{cluster_id}:{stack.topic}"
        self.rng = rng
        for qos in range(3):
            for name in (f"pub{qos}-a", f"pub{qos}-b"):
                self._add_publisher(name, message_maker(name, qos))
            self._add_publisher(f"ret{qos}", retained_maker(f"ret{qos}", qos))
            for name in (f"sub{qos}-a", f"sub{qos}-b"):
                self.subscribers.append(CleanSubscriber(name, self.ledger, "load/#", qos))

    def _add_publisher(self, name: str, make_message: Callable[[int], Message]) -> None:
        self.publishers.append(CleanPublisher(name, self.ledger, make_message))

    @property
    def clients(self) -> Sequence[Mobile]:
        """Everybody."""
        return [*self.subscribers, *self.publishers]

    @property
    def serving(self) -> list[EdgeProcess]:
        """The edges that can serve."""
        return [e for e in self.stack.edges if e.is_running and not e.is_frozen]

    # -- load ------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the stack; everybody comes, and the load begins."""
        await asyncio.to_thread(self.stack.start)
        await self.until_ready()
        await self._connect(self.subscribers)
        await self._until(lambda: all(s.is_subscribed for s in self.subscribers))
        await self._connect(self.publishers)
        await self._until(lambda: all(p.is_served for p in self.publishers))
        await self.some_load(100)

    async def some_load(self, packets: int) -> None:
        """Return after so many more packets have gone or come."""
        await self.ledger.packets(packets, LOAD_S)

    async def until_ready(self) -> None:
        """Return once every process that runs is ready."""
        for process in self.stack.processes:
            if process.is_running and not process.is_frozen:
                await until_ready(process, 200, READY_S)

    async def come_back(self) -> None:
        """Everybody whose connection has ended connects again, to any edge that serves."""
        await self._connect([client for client in self.clients if not client.is_connected])

    async def move(self, count: int) -> None:
        """Let some clients connect to any edge while their connection lasts: a takeover (E12)."""
        await self._connect(self.rng.sample(self.clients, count))

    async def _connect(self, clients: Sequence[Mobile]) -> None:
        edges = self.serving
        await asyncio.gather(
            *(client.connect(self.rng.choice(edges).tcp_port) for client in clients)
        )

    async def all_served(self) -> None:
        """Bring everybody back, and return once all are served and messages are acknowledged."""
        async with asyncio.timeout(SETTLE_S):
            while not all(client.is_served for client in self.clients):
                await self.come_back()
                await self.ledger.packets(1, SETTLE_S)
        acknowledged = len(self.ledger.acknowledged)
        await self._until(lambda: len(self.ledger.acknowledged) > acknowledged + 50)

    async def _until(self, condition: Callable[[], bool]) -> None:
        await self.ledger.until(condition, SETTLE_S)

    async def close(self) -> None:
        """Drop all connections."""
        for client in self.clients:
            await client.drop()

    def print_logs(self) -> None:
        """Print the end of every process's log, which pytest shows if the test has failed."""
        for process in self.stack.processes:
            if process.has_log:
                print(f"--- {process.directory.name}\n{process.log_text()[-LOG_SIZE:]}")

    # -- the end ---------------------------------------------------------------------------------

    async def finish(self) -> LogReader:
        """Publish nothing new; assert everything that must hold; return what the log has."""
        await self.rest()
        async with LogReader(self.stack.servers, self.stack.topic) as log:
            await log.read_to_end()
            due = self._wills_due()
            await log.until(
                lambda: due <= {row.payload for row in log.rows(self.strangers)}, SETTLE_S
            )
            ends = await log.read_to_end()
        rows = log.rows(self.strangers)
        self.check_log(rows)
        self.check_stays(rows)
        self.check_wills(rows)
        await self.until_reflected(ends)
        await self.check_tables(rows)
        print(self.ledger.summary(), f"{log.doubles()} doubles in the log")
        return log

    async def rest(self) -> None:
        """Publish nothing new, and wait until nobody who is there is owed anything."""
        for publisher in self.publishers:
            publisher.stop()
        async with asyncio.timeout(SETTLE_S):
            while not all(client.is_served for client in self.clients):
                await self.come_back()
                await self.ledger.packets(1, SETTLE_S)
        await self._until(lambda: all(publisher.idle for publisher in self.publishers))
        await self._until(lambda: all(s.is_subscribed for s in self.subscribers))
        stays = [subscriber.stays[-1] for subscriber in self.subscribers]
        for stay in stays:
            stay.expect(self.ledger)
        await self._until(lambda: not any(stay.missing for stay in stays))
        self.ledger.assert_kept()

    def _wills_due(self) -> set[bytes]:
        return {
            connection.will
            for client in self.clients
            for connection in client.connections
            if connection.accepted and connection.ended
            if not (connection.said_goodbye or connection.edge_stopped)
        }

    def check_log(self, rows: Sequence[Row]) -> None:
        """Assert that what was acknowledged is in the log, that nothing is twice, and the order."""
        found: Counter[bytes] = Counter()
        for row in rows:
            if row.topic.startswith("load/"):
                message = self.ledger.sent.get(row.payload)
                assert message is not None, f"nobody sent {row}"
                said = row.topic, row.qos, row.retained
                assert (message.topic, message.qos, message.retain) == said, row
                found[row.payload] += 1
        twice = [payload for payload, count in found.items() if count > 1]
        assert not twice, f"{len(twice)} are in the log twice, such as {twice[:5]}"
        sent = self.ledger.sent
        lost = [
            payload
            for payload in self.ledger.acknowledged
            if payload not in found and sent[payload].topic.startswith("load/")
        ]
        assert not lost, f"{len(lost)} acknowledged are not in the log, such as {lost[:5]}"
        self._check_order(rows)

    def _check_order(self, rows: Sequence[Row]) -> None:
        """Assert that messages of a topic, which has one publisher, stand as they were sent.

        What a lost connection has left unacknowledged may land later, while the next one is
        publishing by another edge; but nothing else may.
        """
        sent_in = {
            payload: session
            for publisher in self.publishers
            for payload, session in publisher.sent_in.items()
        }
        newest: dict[str, int] = {}
        newest_in: dict[tuple[str, int], int] = {}
        for row in rows:
            if row.payload not in sent_in:
                continue
            number, session = self.ledger.number_of(row.payload), sent_in[row.payload]
            late = number < newest.get(row.topic, -1)
            assert not (late and row.payload in self.ledger.acknowledged), f"{row} is late"
            newest[row.topic] = max(number, newest.get(row.topic, -1))
            of_session = row.topic, session
            assert number > newest_in.get(of_session, -1), f"{row} stands behind what came after it"
            newest_in[of_session] = number

    def check_stays(self, rows: Sequence[Row]) -> None:
        """Assert that subscribers got the log, each from its SUBACK to the end."""
        by_topic = Fold(rows).by_topic()
        for subscriber in self.subscribers:
            for stay in subscriber.stays:
                stay.check(by_topic, self.ledger)

    def check_wills(self, rows: Sequence[Row]) -> None:
        """Assert that each will that was due is there once."""
        assert_wills(
            self.clients, Counter(row.payload for row in rows if row.topic.startswith(WILLS))
        )

    # -- tables ----------------------------------------------------------------------------------

    async def until_reflected(self, ends: Mapping[int, int], within_s: float = SETTLE_S) -> None:
        """Return once all tables of messages reflect the log up to there."""
        connection = await self._open_database()
        behind: list[Any] = [None]
        try:
            async with asyncio.timeout(within_s):
                while behind:
                    marks = await connection.fetch(_MARKS, self._generation)
                    behind = [mark for mark in marks if mark[2] < ends[mark[1]]]
                    if len(marks) < 3 * len(ends):
                        behind.append("not all have begun")
        except TimeoutError:
            raise AssertionError(f"the tables are behind: {behind}, the log is at {ends}") from None
        finally:
            await connection.close()

    async def check_tables(self, rows: Sequence[Row]) -> None:
        """Assert that each table of messages equals the fold."""
        fold = Fold(rows)
        archive = await self.read_table("mcparchive")
        _assert_equal(
            "archive", {(row.partition, row.position): row for row in archive}, fold.archive
        )
        retained = await self.read_table("retainedmessages")
        _assert_equal("retained", {row.topic: row for row in retained}, fold.retained)
        last_values = await self.read_table("mcplastval")
        _assert_equal("last values", {row.topic: row for row in last_values}, fold.last_values)

    async def read_table(self, table: str) -> list[Row]:
        """Return all rows of a table of messages."""
        connection = await self._open_database()
        try:
            return [Row(*row) for row in await connection.fetch(ROWS.format(table=table))]
        finally:
            await connection.close()

    async def _open_database(self) -> "asyncpg.Connection[asyncpg.Record]":
        stack = self.stack
        return await asyncpg.connect(stack.postgres.url(stack.database))


class FragileScene(KafkaScene):
    """A scene whose servers are its own, so that they may be hurt.

    Attributes:
        kafka: Where the bus is.
        postgres: Where the tables are.
    """

    def __init__(
        self, stack: KafkaStack, kafka: KafkaServer, postgres: PostgresServer, rng: random.Random
    ) -> None:
        super().__init__(stack, kafka.cluster_id, rng)
        self.kafka = kafka
        self.postgres = postgres


def _assert_equal(what: str, found: dict[Any, Row], expected: dict[Any, Row]) -> None:
    missing = sorted(expected.keys() - found.keys())
    assert not missing, f"{len(missing)} are missing in {what}, such as {missing[:5]}"
    surplus = sorted(found.keys() - expected.keys())
    assert not surplus, f"{len(surplus)} are too many in {what}, such as {surplus[:5]}"
    wrong = [(found[key], row) for key, row in expected.items() if found[key] != row]
    assert not wrong, f"{len(wrong)} differ in {what}, such as {wrong[:3]}"
