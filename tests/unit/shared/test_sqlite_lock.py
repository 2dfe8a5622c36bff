"""One broker on a database, whatever names lead to it."""

import os
from pathlib import Path

import pytest
from tests.support.machine import mounted
from tests.support.sqlite_database import commit_full, open_database

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite.backup import backup_file, restore_file
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.testing.database_contract import rows_of


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def link(target: str, name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).hardlink_to(target)


def touch(name: str) -> None:
    Path(name).touch()


def names() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


async def refusal(path: str) -> str:
    with pytest.raises(StartupError) as at:
        await open_database(path)
    assert at.value.exit_code == ExitCode.STORE_IN_USE
    return str(at.value)


async def test_a_database_with_several_names_is_refused_by_each_with_the_way_to_find_them(
    tmp_path: Path,
) -> None:
    database = await open_database("x.db")
    link("x.db", "other/y.db")
    assert "find / -samefile" in await refusal("other/y.db")
    await commit_full(database, 1)
    assert await rows_of(database) == (1, 1, 1)
    await database.close()
    message = await refusal("x.db")
    assert "x.db has 2 names (hard links)" in message
    assert f"find / -samefile {tmp_path}/x.db, and remove all but" in message
    assert names() == ["other/y.db", "x.db", "x.db.lock"]


async def test_no_command_reads_a_database_whose_log_may_lie_beside_another_name() -> None:
    database = await open_database("x.db")
    await commit_full(database, 1)
    link("x.db", "y.db")
    for command in (backup_file, recover_file):
        with pytest.raises(StartupError, match="has 2 names"):
            command(Path("y.db"), Path("z.db"))
    await database.close()


async def test_a_backup_with_several_names_can_be_restored() -> None:
    """As tools that keep generations of backups make them."""
    await (await open_database("x.db")).close()
    backup_file(Path("x.db"), Path("copy.db"))
    link("copy.db", "yesterday.db")
    restore_file(Path("copy.db"), Path("x.db"))
    await (await open_database("x.db")).close()


async def test_a_broker_under_another_name_of_the_file_is_noticed(tmp_path: Path) -> None:
    """The folder of the one name is not that of the other, so neither are the lock files."""
    database = await open_database("x.db")
    await commit_full(database, 1)
    await (await open_database("copy.db")).close()
    touch("y.db")
    with mounted(tmp_path / "y.db", ["--bind", str(tmp_path / "x.db")]):
        assert "y.db is mounted by itself" in await refusal("y.db")
        with pytest.raises(StartupError, match="in use by another broker"):
            restore_file(Path("copy.db"), Path("y.db"))
        with pytest.raises(StartupError, match="is mounted by itself"):
            recover_file(Path("y.db"), Path("z.db"))
    await commit_full(database, 2)
    await database.close()


async def test_a_folder_that_is_mounted_twice_has_one_lock(tmp_path: Path) -> None:
    database = await open_database("x.db")
    (tmp_path / "again a").mkdir()
    with mounted(tmp_path / "again a", ["--bind", str(tmp_path)]):
        assert f"process {os.getpid()}" in await refusal("again a/x.db")
    await database.close()


async def test_a_lock_file_that_was_removed_lets_nobody_recover_or_restore() -> None:
    database = await open_database("x.db")
    await (await open_database("copy.db")).close()
    remove("x.db.lock")
    with pytest.raises(StartupError, match="in use by another broker"):
        restore_file(Path("copy.db"), Path("x.db"))
    with pytest.raises(StartupError, match="in use by another broker"):
        recover_file(Path("x.db"), Path("z.db"))
    await database.close()


def remove(name: str) -> None:
    Path(name).unlink()
