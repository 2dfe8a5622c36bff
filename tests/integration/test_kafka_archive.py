"""Archives in Kafka: whoever dies, every record is there, and each topic in order."""

import asyncio
import os
import random
import signal
from itertools import cycle

import pytest
from tests.integration.archive_scene import ArchiveScene
from tests.integration.observing import Neighbours, until_logged, until_metric
from tests.support.broker import LOOPBACK, RunningBroker, free_ports
from tests.support.chance import drawn_random
from tests.support.kafka import KafkaCluster, KafkaServer
from tests.support.load import Cast

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

ROUNDS = max(int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20")) // 4, 3)
PACKETS_MAX = (30, 300, 3_000)

HELD = "publishers that they want are held"
SMALL = {"MaxMessageSizeKb": 16, "Limits": {"ViewBacklogKb": 64}}


async def test_a_stop_leaves_nothing_behind(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address())
    await scene.begin()
    for _ in range(3):
        await scene.some_load(1_000)
        assert await asyncio.to_thread(broker.stop) == ExitCode.OK
        await scene.restart_broker()
    assert await scene.finish() == 0
    assert "may be missing" not in broker.log_text()


async def test_a_kill_of_kafka_doubles_nothing(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address())
    await scene.begin()
    await scene.some_load(1_000)
    await asyncio.to_thread(own_kafka.kill)
    await scene.some_load(1_000)
    await asyncio.to_thread(own_kafka.start)
    await scene.over()
    # An idempotent producer goes on where it was.
    assert await scene.finish() == 0


async def test_beyond_the_bound_only_those_are_held_whose_messages_are_archived(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address(), **SMALL)
    await scene.begin()
    neighbours = await Neighbours.settle_in(broker)
    await asyncio.to_thread(own_kafka.stop)
    before = len(warnings(broker))
    await scene.until_told("the views in KAFKA (loadArchive) are", HELD)
    await until_logged(broker, "KAFKA: commits ")
    await until_metric(broker, "monstermq_held_connections", len(cast.publishers))
    acknowledged = len(cast.ledger.acknowledged)
    for _ in range(5):
        await neighbours.exchange()
    assert len(cast.ledger.acknowledged) == acknowledged
    neighbours.move_out()
    assert len(warnings(broker)) <= before + 1  # while it is away, that is told once
    await asyncio.to_thread(own_kafka.start)
    await scene.over()
    await scene.finish()
    complaints = warnings(broker)
    # They hang, or fail if a server that goes has refused one: the producer then begins anew. A
    # server that was slow before, or is slow when it comes back, is told in the same two lines.
    told = ("KAFKA: commits ", "KAFKA: works again")
    assert complaints
    assert len(complaints) % len(told) == 0, complaints
    assert all(words in line for words, line in zip(cycle(told), complaints, strict=False)), (
        complaints
    )


def warnings(broker: RunningBroker) -> list[str]:
    return [line for line in broker.log_text().splitlines() if " WARNING " in line]


async def test_a_frozen_kafka_is_told_and_gets_everything_in_the_end(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address())
    await scene.begin()
    own_kafka.freeze()
    await scene.until_told("the views in KAFKA (loadArchive) are", "no answer")
    own_kafka.thaw()
    await scene.over()
    await scene.finish()


async def test_kills_of_broker_and_kafka_lose_nothing_that_is_promised(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene, rng = ArchiveScene(broker, cast, own_kafka.address()), drawn_random()
    await scene.begin()
    for number in range(ROUNDS):
        await scene.some_load(rng.randint(1, rng.choice(PACKETS_MAX)))
        await asyncio.to_thread(end, own_kafka, broker, number % 3, rng)
        if not broker.is_running:
            await scene.restart_broker()
        await scene.over()
    await scene.finish()


def end(kafka: KafkaServer, broker: RunningBroker, which: int, rng: random.Random) -> None:
    """Kill one of them or both, in any order; Kafka is there again afterwards."""
    kills = [(kafka.kill,), (broker.kill,), (kafka.kill, broker.kill)][which]
    for kill in rng.sample(kills, len(kills)):
        kill()
    if not kafka.is_running:
        kafka.start()


async def test_a_broker_is_killed_while_kafka_is_away(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address())
    await scene.begin()
    await asyncio.to_thread(own_kafka.kill)
    await scene.some_load(1_000)
    broker.kill()
    await asyncio.to_thread(own_kafka.start)
    await scene.restart_broker()
    assert "view loadArchive in KAFKA: what came between" in broker.log_text()
    await scene.over()
    await scene.finish()


async def test_a_stop_while_kafka_is_away_ends_in_time(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    scene = ArchiveScene(broker, cast, own_kafka.address())
    await scene.begin()
    await asyncio.to_thread(own_kafka.stop)
    await scene.some_load(1_000)
    broker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(broker.has_ended, within_s=45.0), broker.log_text()
    broker.wait()
    assert "before everything was committed" in broker.log_text()
    assert "Traceback" not in broker.log_text()
    await asyncio.to_thread(own_kafka.start)
    await scene.restart_broker()
    await scene.finish()


async def test_no_start_without_kafka(broker: RunningBroker, cast: Cast) -> None:
    (port,) = free_ports(1)
    scene = ArchiveScene(broker, cast, f"{LOOPBACK}:{port}")
    status, said = broker.run_to_end(scene.config)
    assert status == ExitCode.STORE_UNREACHABLE
    assert f"Kafka.Servers: Kafka at {LOOPBACK}:{port} cannot be reached" in said


async def test_a_cluster_loses_the_leader_under_load(
    broker: RunningBroker, cast: Cast, kafka_cluster: KafkaCluster
) -> None:
    archive = {"Partitions": 3, "Replication": 3}
    kafka = {"Servers": kafka_cluster.address(), "Archive": archive}
    scene = ArchiveScene(broker, cast, kafka_cluster.address(), Kafka=kafka)
    await scene.begin()
    for server in kafka_cluster.servers[:2]:
        await scene.some_load(500)
        await asyncio.to_thread(server.kill)
        await scene.some_load(500)
        await asyncio.to_thread(server.start)
        await scene.over()
    assert await scene.finish() == 0
