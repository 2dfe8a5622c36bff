"""``Edge.Processes``: several edges on one port, looked after by one command."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.observing import fetch, metric, until_metric, until_ready
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import EdgeProcess, KafkaStack
from tests.support.load import Cast
from tests.support.mqtt_peer import Connack, Peer
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

PROCESSES = 2
BOUND_S = 60.0
STARTS = "monstermq_process_starts_total"
CONNECTED = "monstermq_clients_connected"


@pytest.fixture
def stack(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> Iterator[KafkaStack]:
    """Two edge processes on one port; no projector."""
    stack = KafkaStack(
        *(tmp_path, kafka_server.address(), kafka_topic, postgres_server),
        edges=1,
        Edge={"Processes": PROCESSES},
    )
    yield stack
    stack.close()


async def at_each(cast: Cast, edge: EdgeProcess, name: str) -> list[Peer]:
    """Return clients, so many that each process has one."""
    peers: list[Peer] = []
    async with asyncio.timeout(BOUND_S):
        while True:
            peer = await cast.peer(edge.tcp_port)
            assert await peer.connect(f"{name}{len(peers)}") == Connack()
            peers.append(peer)
            counts = [
                await metric(edge, CONNECTED, process=f"edge-{number + 1}")
                for number in range(PROCESSES)
            ]
            if all(counts):
                return peers


def children(edge: EdgeProcess) -> list[psutil.Process]:
    """Return the processes that serve clients."""
    found: list[psutil.Process] = psutil.Process(edge.pid).children()
    return found


async def test_processes_share_a_port_and_one_that_dies_is_started_again(
    stack: KafkaStack, cast: Cast
) -> None:
    edge = stack.edges[0]
    edge.launch()
    await asyncio.to_thread(edge.wait_until_listening)
    await until_ready(edge, 200, BOUND_S)
    peers = await at_each(cast, edge, "first")
    for peer in peers:
        await peer.subscribe(("t", 1))
    await peers[0].publish("t", b"to all", 1)
    assert {(await peer.take()).payload for peer in peers} == {b"to all"}
    victim = children(edge)[0]
    victim.kill()
    await until_metric(edge, STARTS, 2, within_s=BOUND_S, process="edge-1")
    await until_ready(edge, 200, BOUND_S)
    left = [peer for peer in peers if not peer.is_closed()]
    assert 0 < len(left) < len(peers)
    publisher = (await at_each(cast, edge, "later"))[0]
    await publisher.publish("t", b"again", 1)
    assert {(await peer.take()).payload for peer in left} == {b"again"}
    assert edge.stop() == ExitCode.OK


async def test_all_stop_if_the_one_that_looks_after_them_is_killed(stack: KafkaStack) -> None:
    edge = stack.edges[0]
    await asyncio.to_thread(edge.start)
    await until_ready(edge, 200, BOUND_S)
    serving = children(edge)
    assert len(serving) == PROCESSES
    edge.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, serving, BOUND_S)
    assert not alive


def test_a_port_of_another_broker_is_not_shared_with_it(stack: KafkaStack, tmp_path: Path) -> None:
    edge = stack.edges[0]
    edge.start()
    other = EdgeProcess(tmp_path / "other", stack.config_path)
    other.tcp_port = edge.tcp_port
    status, text = other.run_to_end()
    assert status == ExitCode.PORT_IN_USE
    assert f"TCP: port {edge.tcp_port} on 127.0.0.1 is used by another process" in text
    assert "Traceback" not in text


async def test_a_reload_reaches_all(stack: KafkaStack) -> None:
    edge = stack.edges[0]
    await asyncio.to_thread(edge.start)
    await until_ready(edge, 200, BOUND_S)
    edge.send_signal(signal.SIGHUP)
    async with asyncio.timeout(BOUND_S):
        while edge.log_text().count("nothing to reload") < PROCESSES:
            await fetch(edge, "/health")
    assert edge.stop() == ExitCode.OK
