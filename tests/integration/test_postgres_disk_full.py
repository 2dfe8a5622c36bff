"""PostgreSQL's disk is full: publishers are held, and all goes on once there is room."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.faults import POSTGRES, VIEWS_IN_POSTGRES, Mix, Scene
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.machine import mounted
from tests.support.postgres import SUPERUSER, PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

DISK_MIB = 64
ROOM = 4 * 1024 * 1024
"""Bytes left for the load."""

_CHUNK = 64 * 1024


class Tablespace:
    """A small file system in memory, where a server keeps the tables of new databases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ballast = folder / "ballast"

    def fill(self, room: int = 0) -> None:
        """Leave so many bytes free."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while shutil.disk_usage(self._folder).free > room:
                file.write(bytes(_CHUNK))

    def free(self) -> None:
        """Give back what was taken."""
        self._ballast.unlink()


@pytest.fixture
def tablespace(own_postgres: PostgresServer) -> Iterator[Tablespace]:
    """Where the databases of the server are from now on; its log of changes is elsewhere."""
    folder = own_postgres.folder / "small"
    folder.mkdir()
    with mounted(folder, ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs"]):
        tables = folder / "tables"
        tables.mkdir(mode=0o700)
        shutil.chown(tables, SUPERUSER, SUPERUSER)
        own_postgres.psql(
            f"CREATE TABLESPACE small LOCATION '{tables}'",
            "GRANT CREATE ON TABLESPACE small TO PUBLIC",
        )
        own_postgres.psql("ALTER SYSTEM SET default_tablespace = small", "SELECT pg_reload_conf()")
        yield Tablespace(folder)
        own_postgres.kill()  # or the file system could not go


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
