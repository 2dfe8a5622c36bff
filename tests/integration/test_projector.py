"""Projectors on a real Kafka and a real PostgreSQL: every table is a fold of the log."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.projectors import ProjectorProcess, Setting, until

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration


@pytest.fixture
def projectors(setting: Setting) -> Iterator[list[ProjectorProcess]]:
    """Two of them, to be started."""
    both = [ProjectorProcess(setting, f"projector-{number}") for number in (1, 2)]
    yield both
    for each in both:
        each.close()


async def test_every_table_is_a_fold_of_the_log(
    setting: Setting, projectors: list[ProjectorProcess]
) -> None:
    projector = projectors[0]
    await projector.start()
    async with setting.bus() as writer:
        for number in range(200):
            await writer.publish(f"plant/{number % 10}", b"%d" % number, retained=number % 2 == 0)

        async def done() -> bool:
            return len(await setting.archived()) == 200

        await until(done, projector)
        assert await setting.archived() == writer.expected()
        assert await setting.retained() == {
            f"plant/{at}": b"%d" % (190 + at) for at in range(0, 10, 2)
        }
        last = dict(await setting.rows("SELECT topic, payload_blob FROM glastval"))
        assert last == {f"plant/{at}": b"%d" % (190 + at) for at in range(10)}

        async def caught_up() -> bool:
            name = 'monstermq_projection_lag_records{projection="GArchive"}'
            return await projector.metric(name) == 0

        await until(caught_up, projector)
        assert await projector.metric("monstermq_rows_written_total") >= 200
    assert await projector.stop() == ExitCode.OK
    assert "ERROR monstermq" not in projector.log
    assert "CRITICAL" not in projector.log


async def test_both_kinds_run_as_processes_of_their_own_and_answer_as_one(setting: Setting) -> None:
    projector = ProjectorProcess(setting, kinds="VIEWS,SESSIONS")
    try:
        await projector.start()
        name = 'monstermq_partitions{phase="following",process="projector-%s"}'

        async def all_of_them() -> bool:
            views = await projector.metric(name % "views-postgres")
            sessions = await projector.metric(name % "sessions-postgres")
            return (views, sessions) == (4.0, 12.0)

        await until(all_of_them, projector)
        assert "INFO [projector-sessions-postgres] " in projector.log
        assert await projector.stop() == ExitCode.OK
        assert projector.log.count("monstermq_projector.app stopped") == 2
    finally:
        projector.close()


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (
            {"Kafka": {"Servers": "localhost:1", "Bus": {"Enabled": True}}},
            ExitCode.BUS_UNREACHABLE,
            "localhost:1",
        ),
        (
            {"Postgres": {"Url": "postgresql://localhost:1/x"}},
            ExitCode.STORE_UNREACHABLE,
            "localhost:1/x",
        ),
        ({"Kafka": {"Bus": {"Enabled": False}}}, ExitCode.CONFIG, "Kafka.Bus.Enabled"),
    ],
    ids=["Kafka", "database", "bus"],
)
async def test_what_keeps_it_from_starting_is_said_once_with_an_exit_code(
    tmp_path: Path,
    kafka_server: KafkaServer,
    postgres_database: str,
    more: dict[str, object],
    code: ExitCode,
    told: str,
) -> None:
    setting = Setting(tmp_path, kafka_server.address(), postgres_database, more=more)
    projector = ProjectorProcess(setting)
    projector.launch()
    assert await projector.wait() == code
    assert told in projector.log
    assert "Traceback" not in projector.log
