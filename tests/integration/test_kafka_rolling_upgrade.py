"""Readers first: the release before kept sessions and this one on one bus, mixed (R6)."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.kafka_scenes import KafkaScene
from tests.integration.observing import until_ready
from tests.support.chance import drawn_random
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.mqtt_peer import Connack, ConnectOptions, Peer, connect_packet
from tests.support.old_release import OldEdge, OldProjector, unpack
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

READY_S = 60.0


async def kept_connack(port: int) -> Connack:
    """Return what an edge answers to a CONNECT with CleanSession 0."""
    peer = await Peer.open(port)
    try:
        await peer.send(connect_packet("kept", ConnectOptions(clean=False)))
        packet = await peer.read_packet()
        assert isinstance(packet, Connack)
        return packet
    finally:
        peer.drop()


async def test_a_bus_is_upgraded_process_by_process(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> None:
    search_path = unpack(tmp_path / "old")
    stack = KafkaStack(
        tmp_path,
        kafka_server.address(),
        kafka_topic,
        postgres_server,
        bus={"ProtocolVersion": 1},
    )
    new_views, new_sessions = stack.views, stack.sessions
    old_edge = OldEdge(tmp_path / "old-edge", stack.config_path)
    stack.views = OldProjector(tmp_path / "old-views", stack.config_path, ["VIEWS"])
    stack.sessions = OldProjector(tmp_path / "old-sessions", stack.config_path, ["SESSIONS"])
    for old in (old_edge, stack.views, stack.sessions):
        old.search_path = search_path
    new_edges, stack.edges = stack.edges, [old_edge]
    scene = KafkaScene(stack, kafka_server.cluster_id, drawn_random())
    try:
        await scene.begin()
        # Projectors, then edges: each new one beside old ones.
        for old in (stack.views, stack.sessions):
            assert await asyncio.to_thread(old.stop) == ExitCode.OK, old.log_text()
        stack.views, stack.sessions = new_views, new_sessions
        stack.edges = [old_edge, new_edges[0]]
        await asyncio.to_thread(stack.start)
        await scene.until_ready()
        for _ in range(5):
            await scene.move(8)
            await scene.some_load(300)
        assert (await kept_connack(new_edges[0].tcp_port)).code == 3
        # The last old one goes; only then the new version is written.
        for client in scene.clients:
            if client.port == old_edge.tcp_port:
                client.edge_stops()
        assert await asyncio.to_thread(old_edge.stop) == ExitCode.OK, old_edge.log_text()
        stack.settings["Kafka"]["Bus"]["ProtocolVersion"] = 2
        stack.write()
        stack.edges = new_edges
        await asyncio.to_thread(stack.start)
        await until_ready(new_edges[1], 200, READY_S)
        await scene.all_served()
        assert (await kept_connack(new_edges[1].tcp_port)).code == 0
        await scene.finish()
    finally:
        await scene.close()
        for process in (old_edge, *new_edges):
            process.close()
        stack.close()
        scene.print_logs()
