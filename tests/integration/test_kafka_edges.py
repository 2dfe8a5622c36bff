"""Two edges on a Kafka bus: who has a client, how they end, and what an operator can do."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.observing import metric
from tests.support.broker import TICK_S
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import LEASE_S, EdgeProcess, KafkaStack
from tests.support.load import Cast
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import Connack, ConnectOptions, Peer, Publish, Will
from tests.support.operator_tools import run_tool
from tests.support.postgres import PostgresServer

from monstermq_shared.bus.control import decode_facts, encode_facts
from monstermq_shared.bus.facts import Claim, Detach
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.config import load_config
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import SESSION_TOPIC, ControlRecord

pytestmark = pytest.mark.integration

BOUND_S = 60.0


def will(name: str, payload: bytes) -> ConnectOptions:
    """Return what a client with a will says."""
    return ConnectOptions(will=Will(topic=f"{name}/will", payload=payload, qos=1))


@pytest.fixture
def own_stack(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> Iterator[KafkaStack]:
    """One edge and the projectors, not yet started, for one test alone."""
    servers = kafka_server.address()
    stack = KafkaStack(tmp_path, servers, kafka_topic, postgres_server, edges=1)
    yield stack
    stack.close()


@pytest.fixture
async def bus(stack: KafkaStack) -> AsyncIterator[KafkaBus]:
    """The stack's bus, as another process has it."""
    loaded = load_config(stack.config_path, {})
    bus = await open_kafka_bus(KafkaSettings.from_config(loaded.config))
    yield bus
    await bus.close()


async def connected(
    cast: Cast, edge: EdgeProcess, client_id: str, options: ConnectOptions | None = None
) -> Peer:
    """Return a client of an edge."""
    peer = await cast.peer(edge.tcp_port)
    assert await peer.connect(client_id, options) == Connack()
    return peer


async def test_what_an_edge_took_before_the_first_projector_has_rows(
    own_stack: KafkaStack, cast: Cast
) -> None:
    """P1: whoever starts first makes the first marks, of all views."""
    edge = own_stack.edges[0]
    await asyncio.to_thread(edge.start)
    peer = await connected(cast, edge, "early")
    await peer.publish("t", b"early", 1)
    await asyncio.to_thread(own_stack.start)
    for table in ("mcparchive", "mcplastval"):
        await until_told(own_stack, f"SELECT payload FROM {table} WHERE topic = 't'", "early")


async def test_what_another_log_retained_is_served_once_the_database_is_given_away(
    own_stack: KafkaStack, cast: Cast
) -> None:
    """Its offsets are of that log: they do not say that it is new in this one."""
    stack = own_stack
    await asyncio.to_thread(stack.start)
    publisher = await connected(cast, stack.edges[0], "publisher")
    for number in range(3):
        await publisher.publish(f"t/{number}", b"kept", 1, retain=True)
    await until_told(stack, "SELECT count(*) FROM retainedmessages", "3")
    await asyncio.gather(*(asyncio.to_thread(process.stop) for process in stack.processes))
    stack.settings["Kafka"]["Bus"]["Topic"] = f"{stack.topic}-next"
    stack.write()
    adopt = [sys.executable, "-m", "monstermq", "db", "adopt", "-config", str(stack.config_path)]
    await asyncio.to_thread(subprocess.run, adopt, check=True)
    await asyncio.to_thread(stack.start)
    for topic_filter in ("t/#", "t/1"):
        subscriber = await connected(cast, stack.edges[0], "subscriber")
        await subscriber.subscribe((topic_filter, 0))
        count = 3 if topic_filter == "t/#" else 1
        found = [await subscriber.take() for _ in range(count)]
        assert all(message.retain and message.payload == b"kept" for message in found)


async def until_told(stack: KafkaStack, query: str, answer: str) -> None:
    """Return once the database says this, without the space around it."""
    async with asyncio.timeout(BOUND_S):
        while await asyncio.to_thread(told, stack, query) != answer:  # noqa: ASYNC110
            await asyncio.sleep(TICK_S)


def told(stack: KafkaStack, query: str) -> str:
    """Return what the database says, without the space around it."""
    return stack.postgres.psql(query, database=stack.database).strip()


async def test_the_newest_connect_has_the_client_wherever_it_is(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    here, there = stack.edges
    before = await metric(here, "monstermq_disconnects_total", reason="taken_over")
    watcher = await connected(cast, here, f"{name}/watcher")
    await watcher.subscribe((f"{name}/#", 1))
    old = await connected(cast, here, name, will(name, b"gone"))
    for edge in (there, here, there):
        new = await connected(cast, edge, name, will(name, b"gone"))
        await old.closed()
        assert (await watcher.take()).payload == b"gone"
        await new.publish(f"{name}/t", b"served", 1)
        assert await watcher.take() == Publish(f"{name}/t", b"served", 1, packet_id=2)
        old = new
    assert await metric(here, "monstermq_disconnects_total", reason="taken_over") == before + 2


async def test_an_edge_that_stops_hands_over_and_the_last_one_publishes_wills(
    stack: KafkaStack, cast: Cast, bus: KafkaBus, name: str
) -> None:
    here, there = stack.edges
    handed_over = await connected(cast, here, name, will(name, b"handed over"))
    assert here.stop() == 0
    await handed_over.closed()
    await connected(cast, there, name, will(name, b"last"))
    await until_alone(there)
    assert there.stop() == 0
    topic = f"{name}/will".encode()
    wills = []
    async for batch in bus.messages.read(dict.fromkeys(range(bus.messages.partitions), 0)):
        wills += [e.record().payload for e in batch.entries if e.topic == topic]
        if b"last" in wills:
            break
    assert wills == [b"last"]


async def until_alone(edge: EdgeProcess) -> None:
    """Return when the lease of every edge that has stopped is over for this one."""
    ended_s = time.monotonic() + LEASE_S + 1
    while time.monotonic() < ended_s:
        await metric(edge, "monstermq_clients_connected")


async def test_an_operator_ends_a_connection_by_a_fact(
    stack: KafkaStack, cast: Cast, bus: KafkaBus, name: str
) -> None:
    edge = stack.edges[0]
    before = await metric(edge, "monstermq_disconnects_total", reason="detached")
    peer = await connected(cast, edge, name)
    partition = bus.sessions.partition_of(name)
    fact = Detach(client_id=name, epoch=await epoch_of(bus, name), will=False, reason="kick")
    text = encode_facts([fact]).encode()
    record = ControlRecord(SESSION_TOPIC, text, int(time.time() * 1000), 0, Kind.FACTS)
    await bus.sessions.append(partition, [record], Stamp(b"operator", 0))
    await peer.closed()
    assert await metric(edge, "monstermq_disconnects_total", reason="detached") == before + 1
    await connected(cast, edge, name)


async def epoch_of(bus: KafkaBus, client_id: str) -> int:
    """Return the position of a client's claim."""
    partition = bus.sessions.partition_of(client_id)
    async for batch in bus.sessions.read({partition: 0}):
        for entry in batch.entries:
            if entry.kind == Kind.FACTS:
                for fact in decode_facts(entry.record().payload):
                    if isinstance(fact, Claim) and fact.client_id == client_id:
                        return entry.offset
    raise AssertionError("the bus has ended")


async def test_what_edges_get_again_is_no_history(stack: KafkaStack, name: str) -> None:
    config, port = str(stack.config_path), stack.edges[0].tcp_port
    client = await Peer.open(port)
    await client.connect(name)
    watcher = await Peer.open(stack.edges[1].tcp_port)
    await watcher.connect(f"{name}-watcher")
    await watcher.subscribe((f"{name}/#", 1))

    async def publish(payload: bytes, packet_id: int) -> None:
        await client.send(encode_publish(f"{name}/a", payload, qos=1, packet_id=packet_id))
        await client.read_packet()

    async def shown(*arguments: str) -> list[str]:
        _, lines = await asyncio.to_thread(
            run_tool, "tail", f"{name}/#", *arguments, "--json", "-config", config
        )
        return [json.loads(line)["payload"] for line in lines]

    await publish(b"first", 1)
    code, _ = await asyncio.to_thread(
        run_tool,
        *("replay", f"{name}/#", "--from", "-10m", "--into", f"mqtt://127.0.0.1:{port}"),
        *("-config", config),
    )
    assert code == ExitCode.OK
    await publish(b"last", 2)
    delivered = [await watcher.read_packet() for _ in range(3)]
    assert [at.payload for at in delivered if isinstance(at, Publish)] == [
        b"first",
        b"first",
        b"last",
    ]
    async with asyncio.timeout(BOUND_S):
        # Another process has no event to wait for.
        while (history := await shown("--archive", "MCP"))[-1:] != ["last"]:  # noqa: ASYNC110
            await asyncio.sleep(TICK_S)
    assert history == ["first", "last"]
    assert await shown("--from", "-10m", "--to", "now") == ["first", "first", "last"]
    await client.disconnect()
    await watcher.disconnect()
