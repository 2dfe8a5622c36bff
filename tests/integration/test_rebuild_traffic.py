"""``rebuild`` while a projector works, and edges write tens of thousands of records a second."""

import asyncio
import sys
from itertools import count
from time import time_ns

import pytest
from tests.support.log_reading import ROWS, Fold, LogReader, Row
from tests.support.projectors import ProjectorProcess, Setting, Writer, until
from tests.support.rebuilding import run_rebuild, run_verify

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.messages import MessageRun

pytestmark = pytest.mark.integration

TOPICS = 16
TOGETHER = 250
BEFORE = 10_000
WRITTEN_MAX = 80_000
"""Records that are written at most: from then on it catches up, if it has not given up before."""

WITHIN_S = 300.0


class Load:
    """Appends as fast as Kafka takes it.

    Args:
        writer: Where.

    Attributes:
        written: How many records.
    """

    def __init__(self, writer: Writer) -> None:
        self.written = 0
        self._log = writer.bus.messages
        self._numbers = count()

    async def more(self, records: int) -> None:
        """Append so many."""
        upto = self.written + records
        while self.written < upto:
            for number in range(TOPICS):
                topic = f"plant/{number}"
                if not self._log.is_full(self._log.partition_of(topic)):
                    self._append(topic)
            self._log.flush()
            await asyncio.sleep(0)

    def _append(self, topic: str) -> None:
        payloads = [b"%d" % next(self._numbers) for _ in range(TOGETHER)]
        run = MessageRun.of(topic.encode(), payloads, 1)
        run.retain = self.written % (3 * TOGETHER) == 0
        partition = self._log.partition_of(topic)
        wall_ms = time_ns() // 1_000_000
        self._log.append_run(partition, topic.encode(), run, "c", wall_ms, None)
        self.written += TOGETHER


async def begun_rebuild(setting: Setting, table: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monstermq", "rebuild", table, "-config", str(setting.path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def rows(setting: Setting, table: str) -> list[Row]:
    return [Row(*row) for row in await setting.rows(ROWS.format(table=table))]


async def test_a_rebuild_under_traffic_ends_and_equals_the_fold(
    setting: Setting, writer: Writer
) -> None:
    table = "archive:G"
    projector, load = ProjectorProcess(setting), Load(writer)
    try:
        await projector.start()
        async with asyncio.timeout(WITHIN_S):
            await load.more(BEFORE)
            rebuilding = await begun_rebuild(setting, table)
            ended = asyncio.create_task(rebuilding.communicate())
            while not ended.done() and load.written < WRITTEN_MAX:
                await load.more(TOPICS * TOGETHER)
            told, _ = await ended
        text = told.decode()
        if rebuilding.returncode:
            assert rebuilding.returncode == ExitCode.FAILURE, text
            assert "records come faster than they are taken" in text
            assert "made anew" in await run_rebuild(setting, table)
        else:
            assert f"{table}: made anew of" in text
        assert load.written > BEFORE
        async with LogReader(setting.config.kafka.servers, setting.topic) as log:
            ends = await log.read_to_end()
            expected = Fold(log.rows())

        async def done() -> bool:
            marks = await setting.rows("SELECT partition, reflected FROM watermarks")
            return all(reflected >= ends.get(number, 0) for number, reflected in marks)

        await until(done, projector)
        assert {(row.partition, row.position): row for row in await rows(setting, "garchive")} == (
            expected.archive
        )
        assert {row.topic: row for row in await rows(setting, "glastval")} == expected.last_values
        assert {row.topic: row for row in await rows(setting, "retainedmessages")} == (
            expected.retained
        )
        code, found = await run_verify(setting)
        assert (code, [at["differences"] for at in found]) == (ExitCode.OK, [0, 0, 0])
    finally:
        projector.close()
