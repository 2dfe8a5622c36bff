"""A PostgreSQL server whose tables are on a small disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.machine import mounted
from tests.support.postgres import SUPERUSER, PostgresServer

DISK_MIB = 64

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


@contextmanager
def small_tablespace(server: PostgresServer) -> Iterator[Tablespace]:
    """Keep the databases of a server there from now on; its log of changes is elsewhere."""
    folder = server.folder / "small"
    folder.mkdir()
    with mounted(folder, ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs"]):
        tables = folder / "tables"
        tables.mkdir(mode=0o700)
        shutil.chown(tables, SUPERUSER, SUPERUSER)
        server.psql(
            f"CREATE TABLESPACE small LOCATION '{tables}'",
            "GRANT CREATE ON TABLESPACE small TO PUBLIC",
        )
        server.psql("ALTER SYSTEM SET default_tablespace = small", "SELECT pg_reload_conf()")
        yield Tablespace(folder)
        server.kill()  # or the file system could not go
