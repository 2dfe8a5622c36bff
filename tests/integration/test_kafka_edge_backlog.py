"""An edge that has much to read before it may serve: nobody wrote its marks on for a long time."""

from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.postgres import PostgresServer

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Lease
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import SESSION_TOPIC, ControlRecord
from monstermq_shared.testing.bus_records import numbered

pytestmark = pytest.mark.integration

MESSAGES = 3_000
"""In one partition: more than an edge reads ahead."""

LEASES = 4_000
"""In every partition of the sessions log: three or four edges write so many in an hour."""

OTHER_EDGE = b"another1"


async def test_an_edge_starts_that_has_much_to_read_of_both_logs(
    tmp_path: Path, kafka_server: KafkaServer, kafka_topic: str, postgres_server: PostgresServer
) -> None:
    """Messages wait until the sessions log is read to its end (E1), which must go on meanwhile."""
    stack = KafkaStack(tmp_path, kafka_server.address(), kafka_topic, postgres_server)
    try:
        edge = stack.edges[0]
        edge.start()
        assert edge.stop() == 0
        loaded = load_config(stack.config_path, {})
        bus = await open_kafka_bus(KafkaSettings.from_config(loaded.config))
        await fill(bus)
        await bus.close()
        edge.start()
        assert edge.stop() == 0
    finally:
        stack.close()


async def fill(bus: KafkaBus) -> None:
    """Write what nobody reads."""
    now_ms = SystemClock().wall_ms()
    records = numbered("t", MESSAGES)
    await bus.messages.append(bus.messages.partition_of("t"), records, Stamp(OTHER_EDGE, 0))
    text = encode_facts([Lease(run=OTHER_EDGE, for_ms=10_000)]).encode()
    lease = ControlRecord(SESSION_TOPIC, text, now_ms, 0, Kind.LEASE)
    for partition in range(bus.sessions.partitions):
        await bus.sessions.append(partition, [lease] * LEASES, Stamp(OTHER_EDGE, 0))
