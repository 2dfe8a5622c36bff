"""Kafka, PostgreSQL, the network or an edge stand still under load: nobody loses anything by it."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from tests.integration.kafka_outages import (
    BOUND_S,
    connections,
    outlast_a_lease,
    until_more,
    until_told,
)
from tests.integration.kafka_scenes import FragileScene, KafkaScene
from tests.integration.observing import until_logged
from tests.support.broker import LOOPBACK
from tests.support.chance import drawn_random
from tests.support.clean_load import CleanPublisher
from tests.support.kafka import KafkaCluster, KafkaServer
from tests.support.kafka_stack import PARTITIONS, KafkaStack
from tests.support.kafka_tools import create_topic, delete_below
from tests.support.ledger import Message
from tests.support.log_reading import LogReader
from tests.support.mqtt_peer import Peer
from tests.support.postgres import PostgresServer
from tests.support.proxy import TcpProxy

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.murmur2 import partition_of

pytestmark = pytest.mark.integration

CUTS = 3
LONG_LEASE_S = 10
"""Another server becomes a leader in some seconds, which is not the end of a lease."""

DELAY_S = 0.02


async def test_clients_outlast_a_frozen_kafka(fragile_scene: FragileScene) -> None:
    scene = fragile_scene
    await scene.begin()
    before = connections(scene)
    scene.kafka.freeze()
    await outlast_a_lease(scene)
    acknowledged = len(scene.ledger.acknowledged)
    await until_told(scene.stack.views, "Kafka")
    assert len(scene.ledger.acknowledged) == acknowledged
    scene.kafka.thaw()
    await until_more(scene)
    await scene.until_ready()
    assert connections(scene) == before
    log = await scene.finish()
    assert not [row for row in log.rows() if row.topic.startswith("wills/")]


async def test_clients_outlast_a_killed_kafka(fragile_scene: FragileScene) -> None:
    scene = fragile_scene
    await scene.begin()
    before = connections(scene)
    scene.kafka.kill()
    await outlast_a_lease(scene)
    await until_told(scene.stack.views, "Kafka")
    await until_told(scene.stack.sessions, "Kafka")
    await asyncio.to_thread(scene.kafka.start)
    await until_more(scene)
    await scene.until_ready()
    assert connections(scene) == before
    log = await scene.finish()
    assert not [row for row in log.rows() if row.topic.startswith("wills/")]


async def test_an_edge_frozen_beyond_its_lease_lets_its_clients_go(
    kafka_scene: KafkaScene,
) -> None:
    """S3, E13: others publish the wills; awake, it serves nobody whom it has lost."""
    scene = kafka_scene
    await scene.begin()
    victim = scene.stack.edges[0]
    lost = [c for c in scene.clients if c.port == victim.tcp_port]
    assert lost
    victim.freeze()
    due = {client.connections[-1].will for client in lost}
    async with LogReader(scene.stack.servers, scene.stack.topic) as log:
        await log.until(lambda: due <= {row.payload for row in log.rows()}, BOUND_S)
    await scene.some_load(500)
    victim.thaw()
    for client in lost:
        await client.gone()
    await scene.all_served()
    await scene.until_ready()
    await scene.finish()


async def test_running_edges_serve_while_the_database_is_away(fragile_scene: FragileScene) -> None:
    """E1, E2: clean connections need it for retained messages only."""
    scene = fragile_scene
    await scene.begin()
    before = connections(scene)
    starting = scene.stack.edges[1]
    starting.kill()
    scene.postgres.kill()
    await until_told(scene.stack.views, f"/{scene.stack.database}:")
    await scene.come_back()
    await until_more(scene)
    peer = await Peer.open(scene.serving[0].tcp_port)
    await peer.connect("newcomer")
    await peer.subscribe(("news", 1))
    await peer.publish("news", b"1", 1)
    assert (await peer.take()).payload == b"1"
    await peer.disconnect()
    starting.launch()
    await until_logged(starting, "PostgreSQL at", BOUND_S)
    await asyncio.to_thread(scene.postgres.start)
    await asyncio.to_thread(starting.wait_until_listening)
    await scene.until_ready()
    await scene.all_served()
    assert connections(scene) != before
    await scene.finish()


# -- several servers ------------------------------------------------------------------------------


@pytest.fixture
async def cluster_scene(
    tmp_path: Path, kafka_cluster: KafkaCluster, postgres_server: PostgresServer
) -> AsyncIterator[KafkaScene]:
    """Edges and projectors, not yet started, on three servers of this test alone."""
    lease = {"LeaseS": LONG_LEASE_S}
    stack = KafkaStack(tmp_path, kafka_cluster.address(), "bus", postgres_server, bus=lease)
    scene = KafkaScene(stack, kafka_cluster.cluster_id, drawn_random())
    yield scene
    await scene.close()
    stack.close()
    scene.print_logs()


async def leaders(servers: str, topic: str) -> dict[int, int]:
    """Return partition -> node id of its leader."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return {part["partition"]: part["leader"] for part in described["partitions"]}
    finally:
        await admin.close()


async def test_the_death_of_a_leader_is_a_pause(
    cluster_scene: KafkaScene, kafka_cluster: KafkaCluster
) -> None:
    scene = cluster_scene
    await scene.begin()
    before = connections(scene)
    led = await leaders(scene.stack.servers, scene.stack.topic)
    victim = kafka_cluster.server(led[0])
    victim.kill()
    await until_more(scene)
    await scene.until_ready()
    assert connections(scene) == before
    await asyncio.to_thread(victim.start)
    await until_more(scene)
    await scene.finish()


async def test_a_partition_without_a_leader_holds_its_publishers_only(
    cluster_scene: KafkaScene, kafka_cluster: KafkaCluster
) -> None:
    """E14."""
    scene, stack = cluster_scene, cluster_scene.stack
    await make_bus_with_one_replica(stack)
    names = map("load/{}".format, range(99))
    topics = {partition_of(name.encode(), PARTITIONS): name for name in names}
    publishers = {
        partition: CleanPublisher(f"of{partition}", scene.ledger, partial(make_message, topic))
        for partition, topic in topics.items()
    }
    scene.publishers = list(publishers.values())
    await scene.begin()
    led = await leaders(stack.servers, stack.topic)
    victim = kafka_cluster.server(led[0])
    away = {partition for partition, node in led.items() if node == led[0]}
    before = connections(scene)
    victim.kill()
    for partition in away:
        edge = next(e for e in stack.edges if e.tcp_port == publishers[partition].port)
        await until_told(edge, f"Kafka: {stack.topic}, ", "a partition has no leader")
    stuck = {partition: publishers[partition].acknowledged for partition in away}
    await until_more(scene)
    assert {partition: publishers[partition].acknowledged for partition in away} == stuck
    assert connections(scene) == before
    await asyncio.to_thread(victim.start)
    await scene.ledger.until(
        lambda: all(publishers[p].acknowledged > n + 20 for p, n in stuck.items()), BOUND_S
    )
    await scene.until_ready()
    assert connections(scene) == before
    await scene.finish()


def make_message(topic: str, number: int) -> Message:
    """Make a message of a publisher that has one topic."""
    return Message(topic, f"{topic} {number}".encode(), 1)


async def make_bus_with_one_replica(stack: KafkaStack) -> None:
    """Make the bus topic as the product would, but for its copies."""
    settings = {
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": "900000",
        "message.timestamp.after.max.ms": "900000",
        "max.message.bytes": "4000000",
        "min.insync.replicas": "1",
        "retention.ms": str(168 * 3_600_000),
    }
    await create_topic(
        stack.servers, stack.topic, partitions=PARTITIONS, replication=1, settings=settings
    )


# -- the network ----------------------------------------------------------------------------------


async def test_a_network_that_delays_and_cuts_is_a_pause(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    rng = drawn_random()
    server = KafkaServer()
    async with TcpProxy(server.ports["PLAINTEXT"]) as proxy:
        through = f"{LOOPBACK}:{proxy.port}"
        server.settings["advertised.listeners"] = f"PLAINTEXT://{through}"
        await asyncio.to_thread(server.start)
        stack = KafkaStack(tmp_path, through, "bus", postgres_server)
        scene = KafkaScene(stack, server.cluster_id, rng)
        try:
            await scene.begin()
            before = connections(scene)
            proxy.delay_s = DELAY_S
            for _ in range(CUTS):
                await scene.some_load(rng.randint(1, 500))
                proxy.cut()
            proxy.delay_s = 0.0
            proxy.stall()
            await outlast_a_lease(scene)
            proxy.resume()
            await until_more(scene)
            await scene.until_ready()
            assert connections(scene) == before
            await scene.finish()
        finally:
            await scene.close()
            stack.close()
            server.close()
            scene.print_logs()


# -- retention ------------------------------------------------------------------------------------


async def test_retention_that_overtakes_an_edge_ends_it_loudly(kafka_scene: KafkaScene) -> None:
    """E1: it has lost its place, so all its clients go, and it begins again with a new run."""
    scene, stack = kafka_scene, kafka_scene.stack
    await scene.begin()
    victim = stack.edges[0]
    lost = [client for client in scene.clients if client.port == victim.tcp_port]
    victim.freeze()
    await scene.some_load(5_000)
    await delete_all(stack)
    victim.thaw()
    assert await asyncio.to_thread(victim.has_ended, within_s=BOUND_S), victim.log_text()
    assert victim.wait() != ExitCode.OK
    told = (
        rf"CRITICAL .* {stack.topic}: partition \d+: offset \d+ is not in the log.*RetentionHours"
    )
    assert re.search(told, victim.log_text())
    for client in lost:
        await client.gone()
    await asyncio.to_thread(stack.start)
    await scene.until_ready()
    await scene.all_served()


async def delete_all(stack: KafkaStack) -> None:
    """Delete what is on the bus now, as retention does."""
    async with LogReader(stack.servers, stack.topic) as log:
        ends = await log.read_to_end()
    await delete_below(stack.servers, stack.topic, ends)
