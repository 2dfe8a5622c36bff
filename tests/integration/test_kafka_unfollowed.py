"""An edge whose projector is gone while a kept session waits for its rows says so, and the end."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.observing import fetch, metric, until_logged
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.load import Cast
from tests.support.mqtt_peer import Connack, ConnectOptions
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.integration

BOUND_S = 60.0
KEPT = ConnectOptions(clean=False)
LINE = "WARNING monstermq_edge.engines.kafka.unfollowed "


async def test_an_edge_tells_that_no_projector_follows(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> None:
    stack = KafkaStack(tmp_path, kafka_server.address(), kafka_topic, postgres_server, edges=1)
    cast = Cast()
    (edge,) = stack.edges
    unfollowed = "monstermq_partitions_unfollowed"
    try:
        await asyncio.to_thread(stack.start)
        peer = await cast.peer(edge.tcp_port)
        assert await peer.connect("c", KEPT) == Connack()
        await peer.subscribe(("t", 1))
        await peer.disconnect()
        stack.views.kill()
        source = await cast.peer(edge.tcp_port)
        await source.connect("source")
        await source.publish("t", b"owed", 1)
        peer = await cast.peer(edge.tcp_port)
        assert await peer.connect("c", KEPT) == Connack(session_present=True)
        await until_logged(edge, LINE, BOUND_S)
        status, body = await fetch(edge, "/ready")
        (warning,) = json.loads(body)["warnings"]
        assert (status, json.loads(body)["reasons"]) == (200, [])
        assert warning.startswith("no projector makes the rows of the queues, partitions 0")
        assert LINE + warning in edge.log_text()
        assert await metric(edge, unfollowed, projection="queues") > 0
        assert await metric(edge, unfollowed, projection="sessions") == 0
        assert await metric(edge, "monstermq_kept_sessions_waiting") == 1
        stack.views.launch()
        message = await peer.take()
        assert message.payload == b"owed"
        await until_logged(edge, "a projector makes the rows of the queues again", BOUND_S)
        assert "warnings" not in (await fetch(edge, "/ready"))[1]
        assert edge.log_text().count(LINE) == 2
    finally:
        await cast.close()
        stack.close()
