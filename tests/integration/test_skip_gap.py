"""``db skip-gap``: retention has overtaken the worker of the sessions, and somebody acts (P7)."""

import asyncio
import io
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import delete_below, read_topic
from tests.support.projectors import ProjectorProcess, Setting, until

from monstermq.invocations import SkipGap
from monstermq.skipping import skip_gap
from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Claim
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.messages import Will
from monstermq_shared.records import SESSION_TOPIC, ControlRecord

pytestmark = pytest.mark.integration

EDGE = b"edge-one"
WILL = Will(topic="gone", payload=b"away", qos=1, retain=False)
PARTITION = 0
"""A client's own is a matter of edges; the worker takes what it finds."""


async def claim(bus: KafkaBus, client_id: str) -> int:
    """Append a claim of an edge; return the end behind it."""
    fact = Claim(client_id=client_id, clean=True, expiry_s=0, will=WILL, run=EDGE, protocol=4)
    text = encode_facts([fact]).encode()
    record = ControlRecord(SESSION_TOPIC, text, SystemClock().wall_ms(), 0, Kind.FACTS)
    end = (await bus.sessions.end_positions())[PARTITION]
    await bus.sessions.append(PARTITION, [record], Stamp(EDGE, end))
    return (await bus.sessions.end_positions())[PARTITION]


async def skip(setting: Setting) -> str:
    output = io.StringIO()
    code = await asyncio.to_thread(skip_gap, SkipGap(config=setting.path), {}, output)
    assert code == ExitCode.OK
    return output.getvalue()


async def test_sessions_go_on_behind_a_gap_and_who_was_connected_is_not_any_more(
    tmp_path: Path, kafka_server: KafkaServer, postgres_database: str
) -> None:
    setting = Setting(tmp_path, kafka_server.address(), postgres_database)
    projector = ProjectorProcess(setting, kinds="SESSIONS")
    clients: set[str] = set()

    async def has(*wanted: str) -> bool:
        rows = await setting.rows("SELECT client_id FROM sessions")
        clients.update(client for (client,) in rows)
        return {client for (client,) in rows} == set(wanted)

    async def told() -> bool:
        return any("run monstermq db skip-gap" in each for each in await projector.reasons())

    try:
        async with setting.bus() as writer:
            bus = writer.bus
            await projector.start()
            await claim(bus, "before")
            await until(lambda: has("before"), projector)
            assert await skip(setting) == (
                "nothing is missing in the sessions log, and nothing was changed\n"
            )
            await projector.stop()
            end = await claim(bus, "lost")
            await delete_below(setting.config.kafka.servers, bus.sessions.topic, {PARTITION: end})
            projector.launch()
            await until(told, projector)
            await projector.stop()
            assert "1 clients are disconnected" in await skip(setting)
            await claim(bus, "after")
            await projector.start()
            await until(lambda: has("after"), projector)
    finally:
        projector.close()
    assert "lost" not in clients
    records = await read_topic(setting.config.kafka.servers, setting.topic)
    assert [b'"before"' in each.value for each in records if each.key == b"gone"] == [True]


async def test_a_database_of_another_log_is_left_as_it_is(
    tmp_path: Path, kafka_server: KafkaServer, postgres_database: str
) -> None:
    setting = Setting(tmp_path, kafka_server.address(), postgres_database)
    projector = ProjectorProcess(setting, kinds="SESSIONS")
    try:
        await projector.start()
    finally:
        projector.close()
    another = Setting(tmp_path, kafka_server.address(), postgres_database)
    with pytest.raises(StartupError) as refused:
        await skip(another)
    assert refused.value.exit_code == ExitCode.STORE_OF_ANOTHER_LOG
