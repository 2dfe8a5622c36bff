"""The projector ends, sweeps, bounds and marks kept sessions, on real servers (S4 to S6).

The edge is played by hand, fact by fact, so that it does exactly what the test says.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from tests.support.claims import KEPT
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import delete_below
from tests.support.log_reading import LogReader
from tests.support.projectors import (
    PARTITIONS,
    PATIENCE_S,
    ProjectorProcess,
    Setting,
    Writer,
    until,
)

from monstermq_shared.bus.control import control_texts
from monstermq_shared.bus.facts import Detach, Fact, Lease, Marker, Subs
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import CONTROL_TOPIC, SESSION_TOPIC, ControlRecord

pytestmark = pytest.mark.integration

RUN = b"by hand."
FILTERS = ("plant/#", "never")
ROWS = "SELECT partition, position FROM queuedmessagesclients ORDER BY 1, 2"


class Hand:
    """An edge, played by hand.

    Args:
        writer: On its bus.
        reader: Of the sessions log: it reads back what it claims.
    """

    def __init__(self, writer: Writer, reader: LogReader) -> None:
        self.writer = writer
        self._reader = reader
        self._sequences: dict[tuple[str, int], int] = {}

    async def _append(self, log: KafkaLog, partition: int, *facts: Fact) -> int:
        """Append facts as one record; return its sequence."""
        ((kind, text),) = control_texts(facts)
        topic = CONTROL_TOPIC if log is self.writer.bus.messages else SESSION_TOPIC
        record = ControlRecord(topic, text, time_ns() // 1_000_000, 0, kind)
        sequence = self._sequences.get((topic, partition), 0)
        self._sequences[topic, partition] = sequence + 1
        await log.append(partition, [record], Stamp(RUN, sequence))
        return sequence

    async def _fact(self, fact: Any) -> int:
        sessions = self.writer.bus.sessions
        partition = sessions.partition_of(fact.client_id)
        sequence = await self._append(sessions, partition, fact)
        found: list[int] = []

        def is_there() -> bool:
            records = self._reader.records.get(partition, [])
            found[:] = [at.offset for at in records if (at.run, at.sequence) == (RUN, sequence)]
            return bool(found)

        await self._reader.until(is_there, PATIENCE_S)
        return found[0]

    async def connect(self, client_id: str, expiry_s: int = 3_600) -> int:
        """Begin a session that subscribes to ``FILTERS``, with its markers; return the epoch."""
        epoch = await self._fact(replace(KEPT, client_id=client_id, expiry_s=expiry_s, run=RUN))
        whole = tuple((name, 1, 0) for name in FILTERS)
        await self._fact(Subs(client_id=client_id, epoch=epoch, add=whole))
        for partition in range(PARTITIONS):
            marker = Marker(client_id=client_id, epoch=epoch, incarnation=epoch, whole=whole)
            await self._append(self.writer.bus.messages, partition, marker)
        return epoch

    async def leave(self, client_id: str, epoch: int) -> None:
        """End the connection."""
        await self._fact(Detach(client_id=client_id, epoch=epoch, will=False))

    async def live(self) -> None:
        """Say so in all partitions: time goes on in the log."""
        for partition in range(self.writer.bus.sessions.partitions):
            lease = Lease(run=RUN, for_ms=60_000)
            await self._append(self.writer.bus.sessions, partition, lease)


class Scene:
    """A projector, an edge by hand, and both logs read from the beginning."""

    def __init__(self, setting: Setting, projector: ProjectorProcess, hand: Hand) -> None:
        self.setting = setting
        self.projector = projector
        self.hand = hand

    async def until(self, statement: str, wanted: list[tuple[Any, ...]]) -> None:
        """Let the edge live until the database says something."""

        async def said() -> bool:
            await self.hand.live()
            return await self.setting.rows(statement) == wanted

        await until(said, self.projector)

    async def publish(self, *numbers: int) -> None:
        """Publish messages that are queued, over all partitions."""
        for number in numbers:
            await self.hand.writer.publish(f"plant/{number}", b"%d" % number)

    async def facts(self, name: str) -> list[dict[str, Any]]:
        """Return the facts of one name in both logs, with the partition."""
        found = []
        for topic in (self.setting.topic, f"{self.setting.topic}-sessions"):
            async with LogReader(self.setting.config.kafka.servers, topic) as reader:
                await reader.read_to_end()
                for record in reader.counted():
                    if record.kind:
                        here = {"partition": record.partition, "offset": record.offset}
                        found += [{**fact, **here} for fact in record.facts() if fact["f"] == name]
        return found


@pytest.fixture
def setting(tmp_path: Path, kafka_server: KafkaServer, postgres_database: str) -> Setting:
    more = {"Queue": {"MaxMessages": 20}}
    return Setting(tmp_path, kafka_server.address(), postgres_database, more=more)


@pytest.fixture
def projector(setting: Setting) -> Iterator[ProjectorProcess]:
    process = ProjectorProcess(setting, kinds="VIEWS,SESSIONS")
    yield process
    process.close()


@asynccontextmanager
async def scene_of(setting: Setting, projector: ProjectorProcess) -> AsyncIterator[Scene]:
    await projector.start()
    topic = f"{setting.topic}-sessions"
    servers = setting.config.kafka.servers
    async with setting.bus() as writer, LogReader(servers, topic) as reader:
        yield Scene(setting, projector, Hand(writer, reader))
    assert await projector.stop() == ExitCode.OK
    assert "CRITICAL" not in projector.log
    assert "Traceback" not in projector.log


async def test_a_session_that_nobody_comes_back_to_leaves_nothing(
    setting: Setting, projector: ProjectorProcess
) -> None:
    """S4."""
    async with scene_of(setting, projector) as scene:
        hand = scene.hand
        stays = await hand.connect("stays")
        await hand.leave("stays", stays)
        epoch = await hand.connect("goes", expiry_s=3)
        await scene.publish(*range(12))
        await scene.until("SELECT count(*) FROM queuedmessagesclients", [(24,)])
        await hand.leave("goes", epoch)
        await scene.until("SELECT client_id, epoch FROM sessions", [("stays", stays)])
        (end,) = [fact for fact in await scene.facts("claim") if "if" in fact]
        assert (end["c"], end["if"], end["expiry"], end["clean"]) == ("goes", epoch, 0, True)
        marks = [fact for fact in await scene.facts("marker") if fact["set"] == []]
        assert {fact["partition"] for fact in marks} == set(range(PARTITIONS))
        assert {(fact["c"], fact["e"], fact["inc"]) for fact in marks} == {
            ("goes", end["offset"], end["offset"])
        }
        await scene.until("SELECT count(*) FROM queuedmessagesclients", [(12,)])
        cuts = "SELECT epoch, subscriptions::text FROM cuts WHERE client_id = 'goes'"
        assert await setting.rows(cuts) == [(end["offset"], "[]")] * PARTITIONS
        subscribed = "SELECT count(*) FROM subscriptions"
        assert await setting.rows(subscribed) == [(len(FILTERS),)]


async def test_a_queue_over_its_limit_loses_its_oldest_messages(
    setting: Setting, projector: ProjectorProcess
) -> None:
    """S5: at most 20 messages, over all partitions."""
    async with scene_of(setting, projector) as scene:
        hand = scene.hand
        await hand.leave("a", await hand.connect("a"))
        await scene.publish(*range(100))
        drops: list[dict[str, Any]] = []
        left: list[tuple[Any, ...]] = []

        async def all_told() -> bool:
            # There may be so few because not all have come, or a drop that is told is to be made.
            await hand.live()
            drops[:] = await scene.facts("drop")
            left[:] = await setting.rows(ROWS)
            return len(left) <= 20 and sum(fact["count"] for fact in drops) == 100 - len(left)

        await until(all_told, projector)
        assert len(left) >= 10
        below = {fact["partition"]: fact["below"] for fact in drops}
        assert all(position >= below.get(partition, 0) for partition, position in left)


async def test_after_a_gap_sessions_collect_messages_again(
    setting: Setting, projector: ProjectorProcess
) -> None:
    """P7, S6: retention takes the markers of a session before a worker has read them."""
    async with scene_of(setting, projector) as scene:
        hand = scene.hand
        present = await hand.connect("present")
        await scene.until("SELECT count(*) FROM cuts", [(PARTITIONS,)])
        assert await projector.stop() == ExitCode.OK
        absent = await hand.connect("absent")
        await hand.leave("absent", absent)
        await scene.publish(*range(20))
        await _forget_messages(setting, partition=1)
        await projector.start()
        cuts = "SELECT count(*) FROM cuts WHERE client_id = 'absent' AND epoch = {}"
        await scene.until(cuts.format(absent), [(PARTITIONS,)])
        marks = [at for at in await scene.facts("marker") if at["c"] == "absent"]
        assert [at["partition"] for at in marks if at["partition"] == 1] == [1]
        detached = [at for at in await scene.facts("detach") if at["c"] == "present"]
        assert [(at["e"], at["will"], at["reason"]) for at in detached] == [(present, True, "gap")]
        here = [n for n in range(100) if hand.writer.bus.messages.partition_of(f"plant/{n}") == 1]
        before = await setting.rows(ROWS)
        await scene.publish(here[-1])
        rows = f"SELECT count(*) > {len(before)} FROM queuedmessagesclients"
        await scene.until(rows, [(True,)])


async def _forget_messages(setting: Setting, partition: int) -> None:
    """Delete what stands in a partition of the bus, as retention would."""
    await delete_below(setting.config.kafka.servers, setting.topic, {partition: -1})
