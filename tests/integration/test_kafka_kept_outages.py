"""Kept sessions over two edges: Kafka is away, or a standby takes over that lacks rows.

Clients of QoS 1 and 2, real servers, two edges, two projectors.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.integration.kafka_outages import (
    connections,
    outlast_a_lease,
    until_more,
    until_told,
)
from tests.integration.kept_scenes import KeptScene
from tests.support.chance import drawn_random
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.mqtt_client_frames import PINGREQ
from tests.support.mqtt_peer import Connack, ConnectOptions, Peer, Pingresp
from tests.support.postgres import PostgresServer, PostgresStandby, both

from monstermq_shared.views.catalogue import QUEUES, SESSIONS

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20")) // 20
"""1 in ``make test``, 10 in ``make test-faults``."""

AWAY_S = 60.0 if ROUNDS > 1 else 16.0
"""How long Kafka is away, beyond the end of all leases."""

REQUEST_MS = 30_000 if ROUNDS > 1 else 5_000
"""After how long a request to Kafka fails: several times while it is away."""

KEEP_ALIVE = ConnectOptions(clean=False, keep_alive_s=10)
"""Of a client that would long be taken for dead."""

LEFT_BEHIND = 1_500
"""Packets that go and come while clients are away, and the standby follows no more."""

SOME = 300
"""Packets that go and come while no server takes writes."""

MOVES = 3
"""Clients that change the edge."""

_MARKS = """
SELECT projection, generation, partition, reflected FROM watermarks WHERE reflected IS NOT NULL
"""

Marks = Mapping[tuple[str, str, int], int]
"""Projection, generation and partition -> what its rows reflect."""


# -- Kafka ----------------------------------------------------------------------------------------


@pytest.fixture
async def away_scene(
    tmp_path: Path, own_kafka: KafkaServer, hasty_postgres: PostgresServer
) -> AsyncIterator[KeptScene]:
    """Not yet started, on servers of this test alone; requests to Kafka fail while it is away."""
    bus = {"ProducerConfig": {"request.timeout.ms": REQUEST_MS}}
    stack = KafkaStack(tmp_path, own_kafka.address(), "bus", hasty_postgres, bus=bus)
    scene = KeptScene(stack, own_kafka, hasty_postgres, drawn_random())
    yield scene
    await scene.close()
    stack.close()
    scene.print_logs()


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_kept_clients_stay_and_go_on_while_kafka_is_away_for_long(
    away_scene: KeptScene, how: str
) -> None:
    """E13, E14, R1: nobody's connection ends, nothing is acknowledged, and all goes on."""
    scene = away_scene
    await scene.begin()
    await scene.some_load(1_000)
    quiet = await Peer.open(scene.stack.edges[0].tcp_port)
    assert await quiet.connect("quiet", KEEP_ALIVE) == Connack()
    before = connections(scene)
    if how == "killed":
        scene.kafka.kill()
    else:
        scene.kafka.freeze()
    await outlast_a_lease(scene)
    acknowledged = len(scene.ledger.acknowledged)
    await asyncio.gather(*(client.lasts(AWAY_S) for client in scene.clients))
    for projector in (scene.stack.views, scene.stack.sessions):
        await until_told(projector, "Kafka")
    assert len(scene.ledger.acknowledged) == acknowledged
    await quiet.send(PINGREQ)
    if how == "killed":
        await asyncio.to_thread(scene.kafka.start)
    else:
        scene.kafka.thaw()
    await until_more(scene)
    await quiet.expect(Pingresp())
    await quiet.disconnect()
    await scene.until_ready()
    assert connections(scene) == before
    log = await scene.finish()
    assert connections(scene) == before
    assert not [row for row in log.rows() if row.topic.startswith("wills/")]


# -- PostgreSQL -----------------------------------------------------------------------------------


class FailoverScene(KeptScene):
    """Kept sessions whose tables are on a server with a standby, which takes over now and then.

    Attributes:
        standby: Follows ``postgres``.
    """

    def __init__(self, directory: Path, kafka: KafkaServer, postgres: PostgresServer) -> None:
        stack = KafkaStack(directory, kafka.address(), "bus", postgres)
        super().__init__(stack, kafka, postgres, drawn_random())
        self.standby = PostgresStandby(postgres)
        self._standbys = [self.standby]
        self._places = {postgres.port, self.standby.port}
        stack.settings["Postgres"] = {"Url": both(postgres, self.standby)(stack.database)}
        stack.write()

    async def renew_standby(self) -> None:
        """Let a new standby follow, at the place of the server that died last."""
        (free,) = self._places - {self.postgres.port}
        self.standby = await asyncio.to_thread(PostgresStandby, self.postgres, port=free)
        self._standbys.append(self.standby)
        await asyncio.to_thread(self.standby.start)

    async def come_and_go(self) -> None:
        """Let subscribers find what waited for them, and others come between."""
        await self.say_goodbye(self.rng.sample(self.kept_subscribers, 2))
        await self.some_load(LEFT_BEHIND)
        await self.come_back()
        await self.move(MOVES)

    async def fail_over(self) -> None:
        """Kill the server when its standby lacks commits, and let the standby take over."""
        await asyncio.to_thread(self.standby.detach)
        await self.come_and_go()
        await self.some_load(LEFT_BEHIND)
        await self.come_and_go()  # nobody waits until they are served
        before = await self._marks()
        await asyncio.to_thread(self.postgres.kill)
        await self.some_load(SOME)
        await asyncio.to_thread(self.standby.promote)
        self.postgres = self.stack.postgres = self.standby
        after = await self._marks()
        for projection in (QUEUES, SESSIONS):
            lacks = [key for key, at in after.items() if key[0] == projection and at < before[key]]
            assert lacks, f"the standby has all of {projection}: {after}"

    async def _marks(self) -> Marks:
        """Return what the rows of the server of now reflect."""
        connection = await self._open_database()
        try:
            return {tuple(row)[:3]: row[3] for row in await connection.fetch(_MARKS)}
        finally:
            await connection.close()

    def close_standbys(self) -> None:
        """End all that were made, however."""
        for standby in self._standbys:
            standby.close()


@pytest.fixture
async def failover_scene(
    tmp_path: Path, own_kafka: KafkaServer, hasty_postgres: PostgresServer
) -> AsyncIterator[FailoverScene]:
    """Not yet started, on servers of this test alone; the standby follows."""
    scene = FailoverScene(tmp_path, own_kafka, hasty_postgres)
    try:
        await asyncio.to_thread(scene.standby.start)
        yield scene
    finally:
        await scene.close()
        scene.stack.close()
        scene.close_standbys()
        scene.print_logs()


async def test_a_killed_server_whose_standby_lacks_commits_costs_kept_sessions_nothing(
    failover_scene: FailoverScene,
) -> None:
    """E5, E2, P1: the workers begin at the older rows; who is owed some waits for them."""
    scene = failover_scene
    await scene.begin()
    for number in range(ROUNDS):
        if number:
            await scene.renew_standby()
        await scene.some_load(LEFT_BEHIND)
        await scene.fail_over()
        await scene.until_ready()
        await scene.all_served()
        scene.ledger.assert_kept()
    await scene.finish()
