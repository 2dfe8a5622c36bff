"""PostgreSQL's disk is full: publishers are held, and all goes on once there is room."""

from collections.abc import Iterator

import pytest
from tests.integration.faults import POSTGRES, VIEWS_IN_POSTGRES, Mix, Scene
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.postgres import PostgresServer
from tests.support.tablespace import Tablespace, small_tablespace

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

ROOM = 4 * 1024 * 1024
"""Bytes left for the load."""


@pytest.fixture
def tablespace(own_postgres: PostgresServer) -> Iterator[Tablespace]:
    with small_tablespace(own_postgres) as tablespace:
        yield tablespace


@pytest.mark.parametrize("mix", [POSTGRES, VIEWS_IN_POSTGRES], ids=str)
async def test_a_full_disk_holds_publishers_until_there_is_room(
    broker: RunningBroker,
    cast: Cast,
    own_postgres: PostgresServer,
    tablespace: Tablespace,
    mix: Mix,
) -> None:
    scene = Scene(broker, cast, mix, own_postgres)
    await scene.begin()
    tablespace.fill(ROOM)
    async with scene.trouble("its disk is full; free some space"):
        pass
    tablespace.free()
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


def test_a_disk_that_is_full_at_start_ends_the_process(
    broker: RunningBroker, own_postgres: PostgresServer, tablespace: Tablespace
) -> None:
    database = own_postgres.create_database()
    config = POSTGRES.config(own_postgres.url(database))
    tablespace.fill()
    status, said = broker.run_to_end(config)
    assert status == ExitCode.STORE_FULL, said
    assert "its disk is full; free some space" in said
    tablespace.free()
    assert broker.start(config).stop() == ExitCode.OK
