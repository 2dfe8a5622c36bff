"""The queues of kept sessions in PostgreSQL, while their projector is killed again and again."""

from collections.abc import Iterator
from random import Random
from time import time_ns

import pytest
from tests.support.kept_reading import CutRow, fold_cuts
from tests.support.log_reading import LogReader, LogRecord
from tests.support.projectors import (
    PARTITIONS,
    ProjectorProcess,
    Setting,
    Writer,
    until,
)

from monstermq_shared.bus.control import control_texts
from monstermq_shared.bus.facts import Ack, Fact, Marker
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord
from monstermq_shared.topics import matches

pytestmark = pytest.mark.integration

RUN = b"by hand."
ROWS = """
    SELECT client_id, q.partition, q.position, qos FROM queuedmessagesclients q
    JOIN cuts USING (client_digest, generation, partition) ORDER BY 1, 2, 3"""
CUTS = "SELECT client_id, partition, epoch, position, incarnation FROM cuts ORDER BY 1, 2"
CLIENTS = {"all": ("#", 1), "some": ("plant/+", 2), "few": ("plant/3", 1)}
ROUNDS = 5
MESSAGES = 200
"""Of one round."""


class Edge:
    """What an edge would write, by the record."""

    def __init__(self, writer: Writer, reader: LogReader, prng: Random) -> None:
        self._writer = writer
        self._reader = reader
        self._prng = prng
        self._sequences = dict.fromkeys(range(PARTITIONS), 0)

    async def say(self, partition: int, *facts: Fact) -> None:
        """Append facts, sometimes twice (R1)."""
        for kind, text in control_texts(facts):
            record = ControlRecord(CONTROL_TOPIC, text, time_ns() // 1_000_000, 0, kind)
            stamp = Stamp(RUN, self._sequences[partition])
            self._sequences[partition] += 1
            for _ in range(self._prng.choice((1, 1, 2))):
                await self._writer.bus.messages.append(partition, [record], stamp)

    async def mark(self, client_id: str, epoch: int, incarnation: int) -> None:
        """Begin delivery in all partitions."""
        whole = ((*CLIENTS[client_id], 0),)
        for partition in range(PARTITIONS):
            marker = Marker(client_id=client_id, epoch=epoch, incarnation=incarnation, whole=whole)
            await self.say(partition, marker)

    async def publish(self) -> None:
        """Publish a round's messages."""
        for number in range(MESSAGES // 4):
            topic = f"plant/{self._prng.randrange(6)}"
            await self._writer.publish(topic, *(b"%d.%d" % (number, at) for at in range(4)))

    async def acknowledge(self) -> None:
        """Read on, and acknowledge about half of what was read."""
        await self._reader.read_to_end()
        rows = _fold(self._reader.by_partition())
        for client_id in CLIENTS:
            for partition in range(PARTITIONS):
                waits = [at for name, here, at, _ in rows if (name, here) == (client_id, partition)]
                some = self._prng.sample(waits, len(waits) // 2)
                if some:
                    await self.say(partition, Ack(client_id=client_id, offsets=tuple(some)))


def _fold(partitions: dict[int, list[LogRecord]]) -> list[tuple[str, int, int, int]]:
    """Return client, partition, offset and QoS of what is not acknowledged."""
    found: dict[tuple[str, int, int], int] = {}
    for partition, records in sorted(partitions.items()):
        cuts: dict[tuple[str, int], CutRow] = {}
        for record in records:
            if not record.kind:
                _match(found, cuts, record)
                continue
            facts = record.facts()
            for fact in facts:
                if fact["f"] == "ack":
                    for offset in fact["os"]:
                        found.pop((fact["c"], partition, offset), None)
                elif fact["f"] == "marker":
                    _begin(found, cuts, fact, record)
    return sorted((*key, qos) for key, qos in found.items())


def _begin(
    found: dict[tuple[str, int, int], int],
    cuts: dict[tuple[str, int], CutRow],
    marker: dict[str, object],
    record: LogRecord,
) -> None:
    client_id, partition = str(marker["c"]), record.partition
    before = cuts.get((client_id, partition))
    after = fold_cuts({partition: [record]})[client_id, partition]
    cuts[client_id, partition] = after
    if before is not None and before.incarnation < after.incarnation:
        for key in [key for key in found if key[:2] == (client_id, partition)]:
            del found[key]


def _match(
    found: dict[tuple[str, int, int], int],
    cuts: dict[tuple[str, int], CutRow],
    record: LogRecord,
) -> None:
    topic, qos = record.key.decode(), (record.flags or 0) & 3
    for (client_id, partition), cut in cuts.items():
        granted = [at for name, at in cut.subscriptions if matches(name, topic)]
        decided = min(qos, max(granted, default=0))
        if decided:
            found[client_id, partition, record.offset] = decided


@pytest.fixture
def projector(setting: Setting) -> Iterator[ProjectorProcess]:
    process = ProjectorProcess(setting)
    yield process
    process.close()


async def test_after_any_kills_the_rows_are_a_fold_of_the_log(
    setting: Setting, projector: ProjectorProcess
) -> None:
    prng = Random(7)
    servers = setting.config.kafka.servers
    async with setting.bus() as writer, LogReader(servers, setting.topic) as reader:
        edge = Edge(writer, reader, prng)
        # Views begin at the end of the log.
        await projector.start()
        await projector.kill()
        for number in range(ROUNDS):
            projector.launch()
            await edge.mark("all", number, 0)
            await edge.mark("some", number, number // 2)
            await edge.mark("few", number, number)
            await edge.publish()
            await edge.acknowledge()
            if number % 2:
                await until(projector.is_ready, projector)
            await edge.publish()
            await projector.kill()
            await edge.acknowledge()
        await projector.start()
        await edge.publish()
        await edge.acknowledge()
        await reader.read_to_end()
        expected = _fold(reader.by_partition())
        assert expected

        async def is_so() -> bool:
            return await setting.rows(ROWS) == expected

        await until(is_so, projector)
        cuts = fold_cuts(reader.by_partition())
        assert await setting.rows(CUTS) == sorted((*key, *cut[:3]) for key, cut in cuts.items())
        assert await setting.archived() == writer.expected()
        assert await projector.metric("monstermq_deliveries_matched_total") > 0
    assert await projector.stop() == ExitCode.OK
    assert "CRITICAL" not in projector.log
    assert "Traceback" not in projector.log
