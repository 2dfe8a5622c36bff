"""Views in PostgreSQL beside sessions in SQLite, while the server is away: behind, never wrong."""

import asyncio
import signal
from typing import Any

import pytest
from tests.integration.faults import EXCHANGES, VIEWS_IN_POSTGRES, Scene
from tests.integration.observing import until_metric, until_ready
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.mqtt_peer import ConnectOptions, Peer, Publish
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

SMALL: dict[str, Any] = {"MaxMessageSizeKb": 16, "Limits": {"ViewBacklogKb": 64}}
STOP_AWAY_S = 45.0
"""What ``docs/operation.md`` gives a stop while a database is away."""

BOUND_S = 60.0
HELD = "publishers that they want are held"
PERSISTENT = ConnectOptions(clean=False)


async def test_at_the_bound_only_those_are_held_whose_messages_the_view_wants(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer
) -> None:
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, own_postgres, **SMALL)
    await scene.begin()
    async with scene.trouble("nobody listens there", HELD) as neighbours:
        own_postgres.stop()
        await scene.until_told(HELD)
        # What had been read before is still acknowledged.
        await until_metric(broker, "monstermq_held_connections", len(cast.publishers))
        await neighbours.exchange()
        # Nobody whose messages the view wants is acknowledged any more, as soon as the publishers
        # have read what is on its way.
        acknowledged = -1
        async with asyncio.timeout(BOUND_S):
            while acknowledged != (acknowledged := len(scene.ledger.acknowledged)):
                await others_flow(scene)
    own_postgres.start()
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


async def others_flow(scene: Scene) -> None:
    """Assert that a persistent session is served whose messages no view elsewhere wants."""
    for _ in range(EXCHANGES):
        sender, receiver = await scene.cast.peer(scene.port), await scene.cast.peer(scene.port)
        await sender.connect("other sender", PERSISTENT)
        await receiver.connect("other receiver", PERSISTENT)
        await receiver.subscribe(("other/#", 2))
        for qos in range(3):
            await sender.publish("other/topic", str(qos).encode(), qos)
            assert await receiver.take() == Publish("other/topic", str(qos).encode(), qos)
        await sender.disconnect()
        await receiver.disconnect()


async def test_a_kill_while_the_server_is_away_costs_what_the_next_start_names(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer
) -> None:
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, own_postgres)
    await scene.begin()
    async with scene.trouble("nobody listens there"):
        own_postgres.stop()
        await scene.some_load(2_000)
    broker.kill()
    own_postgres.start()
    await scene.restart_broker()
    await scene.over()
    named = {"MCPArchive", "MCPLastval", "retained"}
    assert scene.views_named_as_missing() == named
    assert not any("MCPArchive in SQLITE" in line for line in scene.complaints())
    # What comes later names nothing again, and brings the last writes up to date.
    await scene.some_load(2_000)
    await scene.finish(is_missing=scene.named_as_missing())
    missing = scene.named_as_missing()
    own = scene.tables("SQLITE").archived("ownarchive")
    assert any(missing(position) for position, _ in own)
    assert broker.stop() == ExitCode.OK
    lines = len(scene.complaints())
    broker.start(scene.config)
    assert len(scene.complaints()) == lines


async def test_a_stop_leaves_nothing_behind(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer
) -> None:
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, own_postgres)
    await scene.begin()
    for _ in range(3):
        await scene.some_load(1_000)
        assert broker.stop() == ExitCode.OK
        await scene.restart_broker()
    assert not scene.complaints()
    await scene.finish()


async def test_a_stop_while_the_server_is_away_ends_in_time_and_the_next_start_tells_the_cost(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer
) -> None:
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, own_postgres)
    await scene.begin()
    async with scene.trouble("nobody listens there"):
        own_postgres.stop()
    broker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(broker.has_ended, within_s=STOP_AWAY_S), broker.log_text()
    broker.wait()
    assert "before everything was committed" in broker.log_text()
    own_postgres.start()
    await scene.restart_broker()
    assert "MCPArchive" in scene.views_named_as_missing()
    await scene.over()
    await scene.some_load(2_000)
    await scene.finish(is_missing=scene.named_as_missing())


async def retain(peer: Peer, **values: str) -> None:
    for topic, value in values.items():
        await peer.publish(f"shelf/{topic}", value.encode(), 1, retain=True)


async def seen_by_new_subscription(scene: Scene, count: int) -> tuple[Peer, dict[str, str]]:
    reader = await scene.cast.peer(scene.port)
    await reader.connect(f"reader {count}")
    await reader.subscribe(("shelf/#", 1))
    return reader, await take(reader, count)


async def take(reader: Peer, count: int) -> dict[str, str]:
    messages = [await reader.take() for _ in range(count)]
    assert all(message.retain for message in messages)
    return {m.topic.removeprefix("shelf/"): m.payload.decode() for m in messages}


async def test_what_is_retained_is_right_while_the_view_is_behind(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer
) -> None:
    """What was retained meanwhile comes at once, and the rows once they can be read."""
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, own_postgres)
    broker.start(scene.config)
    publisher = await cast.peer(scene.port)
    await publisher.connect("publisher")
    await retain(publisher, old="1", changed="1", cleared="1")
    await until_metric(broker, "monstermq_rows_written_total", 3)
    own_postgres.stop()
    await retain(publisher, changed="2", cleared="", new="1")
    await until_ready(broker, 503)
    early, seen = await seen_by_new_subscription(scene, 2)
    assert seen == {"changed": "2", "new": "1"}
    await retain(publisher, new="2")
    assert await early.take() == Publish("shelf/new", b"2", 1)
    own_postgres.start()
    assert await take(early, 1) == {"old": "1"}
    assert await early.ping() == []
    await until_ready(broker, 200)
    late, seen = await seen_by_new_subscription(scene, 3)
    assert seen == {"old": "1", "changed": "2", "new": "2"}
    assert await late.ping() == []
