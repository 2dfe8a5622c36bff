"""A Kafka bus under load of clean and of kept sessions, and what must hold for both.

Beyond ``kafka_scenes``: kept subscribers get whatever was acknowledged, once at QoS 2, in order,
wherever they are; and the tables of sessions are what follows from both logs.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.kafka_scenes import SETTLE_S, FragileScene
from tests.support.clean_load import Mobile
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.kept_load import KEPT, KeptClient, KeptPublisher, KeptSubscriber, kept_maker
from tests.support.kept_reading import CutRow, fold_cuts, fold_sessions
from tests.support.log_reading import LogReader, Row
from tests.support.postgres import PostgresServer

SLOW_S = 0.02
"""How long a slow subscriber thinks about each message."""

_OWED = """
SELECT (SELECT count(*) FROM queuedmessagesclients) + (SELECT count(*) FROM open_ids)
"""
_CUTS = """
SELECT client_id, partition, epoch, position, incarnation, subscriptions FROM cuts
"""
_SESSIONS = "SELECT client_id, epoch, incarnation, connected FROM sessions WHERE expiry_s > 0"
_SUBSCRIPTIONS = "SELECT client_id, array_to_string(topic, '/'), qos FROM subscriptions"


class KeptScene(FragileScene):
    """Clean clients, and beside them kept ones.

    Attributes:
        kept_publishers: Of QoS 1 and 2.
        kept_subscribers: Of QoS 1 and 2; one of each is slow.
    """

    def __init__(
        self, stack: KafkaStack, kafka: KafkaServer, postgres: PostgresServer, rng: random.Random
    ) -> None:
        super().__init__(stack, kafka, postgres, rng)
        self.kept_publishers: list[KeptPublisher] = []
        self.kept_subscribers: list[KeptSubscriber] = []
        for qos in (1, 2):
            for name in (f"keptpub{qos}-a", f"keptpub{qos}-b"):
                maker = kept_maker(name, qos)
                self.kept_publishers.append(KeptPublisher(name, self.ledger, maker))
            for name, delay_s in ((f"keptsub{qos}", 0.0), (f"keptslow{qos}", SLOW_S)):
                self.kept_subscribers.append(
                    KeptSubscriber(name, self.ledger, f"{KEPT}#", qos, delay_s)
                )

    @property
    def kept(self) -> Sequence[KeptClient]:
        """All kept clients."""
        return [*self.kept_subscribers, *self.kept_publishers]

    @property
    def clients(self) -> Sequence[Mobile]:
        """See ``KafkaScene``."""
        return [*super().clients, *self.kept]

    async def begin(self) -> None:
        """See ``KafkaScene``; kept subscribers come before anything is published for them."""
        await super().begin()
        await self._connect(self.kept_subscribers)
        await self._until(lambda: all(s.is_subscribed for s in self.kept_subscribers))
        await self._connect(self.kept_publishers)
        await self._until(lambda: all(p.is_served for p in self.kept_publishers))

    async def leave(self, count: int) -> None:
        """Let some kept clients say goodbye."""
        await self.say_goodbye(self.rng.sample(self.kept, count))

    async def say_goodbye(self, clients: Sequence[KeptClient]) -> None:
        """Let clients say goodbye, and return when the log has it.

        Until then nobody is told: an edge that dies takes it along, and a claim by another edge may
        stand before it (S2).
        """
        for client in clients:
            await client.leave()
        if not clients:
            return
        async with LogReader(self.stack.servers, self.stack.sessions_topic) as log:
            await log.until(lambda: all(_is_told(client, log) for client in clients), SETTLE_S)

    # -- the end ---------------------------------------------------------------------------------

    async def rest(self) -> None:
        """See ``KafkaScene``: until kept subscribers have all that was acknowledged."""
        for publisher in self.kept_publishers:
            publisher.stop()
        await super().rest()
        await self._until(lambda: all(p.idle for p in self.kept_publishers))
        await self._until(self.ledger.all_delivered)
        self.ledger.assert_kept()

    def check_log(self, rows: Sequence[Row]) -> None:
        """See ``KafkaScene``: what kept clients publish at QoS 2 is there once."""
        super().check_log(rows)
        found = Counter(row.payload for row in rows if row.topic.startswith(KEPT))
        sent, acknowledged = self.ledger.sent, self.ledger.acknowledged
        lost = [p for p in acknowledged if sent[p].topic.startswith(KEPT) and p not in found]
        assert not lost, f"{len(lost)} acknowledged are not in the log, such as {lost[:5]}"
        twice = [p for p, count in found.items() if count > 1 and sent[p].qos == 2]
        assert not twice, f"{len(twice)} of QoS 2 are in the log twice, such as {twice[:5]}"

    async def check_tables(self, rows: Sequence[Row]) -> None:
        """See ``KafkaScene``: and the tables of sessions equal what follows from the logs."""
        await super().check_tables(rows)
        await self._until_table(_OWED, lambda found: found == [(0,)])
        stack = self.stack
        async with (
            LogReader(stack.servers, stack.sessions_topic) as facts,
            LogReader(stack.servers, stack.topic) as bus,
        ):
            await facts.read_to_end()
            await bus.read_to_end()
        sessions = fold_sessions(facts.by_partition())
        kept = {name: session for name, session in sessions.items() if session.expiry_s}
        expected = sorted((n, s.epoch, s.incarnation, s.attached) for n, s in kept.items())
        await self._until_table(_SESSIONS, lambda found: sorted(found) == expected)
        subscribed = sorted(
            (name, topic_filter, qos)
            for name, session in kept.items()
            for topic_filter, qos in session.subscriptions.items()
        )
        await self._until_table(_SUBSCRIPTIONS, lambda found: sorted(found) == subscribed)
        cuts = fold_cuts(bus.by_partition())
        await self._until_table(_CUTS, lambda found: dict(map(_cut_row, found)) == cuts)

    async def _until_table(
        self, query: str, condition: Callable[[list[tuple[Any, ...]]], bool]
    ) -> None:
        """Return once what a query finds is as it must be."""
        connection = await self._open_database()
        found: list[tuple[Any, ...]] = []
        try:
            async with asyncio.timeout(SETTLE_S):
                while not condition(found):
                    found = [tuple(row) for row in await connection.fetch(query)]
        except TimeoutError:
            raise AssertionError(f"{query} finds {found[:20]}, {len(found)} in all") from None
        finally:
            await connection.close()


def _is_told(client: KeptClient, log: LogReader) -> bool:
    """Whether the sessions log has every goodbye of a client."""
    said = sum(connection.said_goodbye for connection in client.connections)
    told: int = sum(
        fact["c"] == client.client_id and fact["reason"] == "client_disconnected"
        for fact in log.facts("detach")
    )
    return said <= told


def _cut_row(row: tuple[Any, ...]) -> tuple[tuple[str, int], CutRow]:
    client_id, partition, epoch, position, incarnation, subscriptions = row
    texts = json.loads(subscriptions) if isinstance(subscriptions, str) else subscriptions
    filters = tuple(sorted((at[0], at[1]) for at in texts))
    return (client_id, partition), CutRow(epoch, position, incarnation, filters)
