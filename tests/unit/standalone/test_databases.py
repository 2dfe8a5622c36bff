"""The ``db`` commands: what they do, say, and end with."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.operator_tools import run_tool
from tests.support.sqlite_database import commit_full, open_database

from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("SessionStoreType: SQLITE\nSQLite: {Path: x.db}\n")


def make(path: str, commits: int) -> None:
    async def fill() -> None:
        database = await open_database(path)
        for number in range(commits):
            await commit_full(database, number + 1)
        await database.close()

    asyncio.run(fill())


def archived(path: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM mcparchive").fetchone()[0])


def run(*arguments: str) -> tuple[int, list[str]]:
    """Run a command in this process; return its exit code and the lines it wrote."""
    return run_tool("db", *arguments)


def test_the_configured_database_is_backed_up_and_an_older_backup_replaced() -> None:
    make("x.db", 7)
    for said in ("", ", an older file was replaced"):
        code, lines = run("backup", "copy.db", "-config", "c.yaml")
        assert code == ExitCode.OK
        assert lines == [f"copy.db: {Path('copy.db').stat().st_size} bytes, a copy of x.db{said}"]
    assert archived("copy.db") == 7


def test_any_other_file_is_replaced_only_by_force() -> None:
    make("x.db", 1)
    Path("thesis").write_text("three years of work")
    with pytest.raises(ConfigError, match="--force"):
        run("backup", "thesis", "-config", "c.yaml")
    assert Path("thesis").read_text() == "three years of work"
    assert run("backup", "thesis", "-force", "-config", "c.yaml")[0] == ExitCode.OK
    assert archived("thesis") == 1


def test_the_configured_database_is_restored_and_the_old_one_named() -> None:
    make("x.db", 2)
    run("backup", "copy.db", "-config", "c.yaml")
    make("x.db", 5)
    code, (first, second) = run("restore", "copy.db", "-config", "c.yaml")
    assert code == ExitCode.OK
    assert first == f"x.db: restored from copy.db, {Path('x.db').stat().st_size} bytes"
    assert archived("x.db") == 2
    assert archived(second.removeprefix("what was there before is now ")) == 5


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_database_in_memory_has_no_backup(command: str) -> None:
    Path("c.yaml").write_text("SessionStoreType: SQLITE\nSQLite: {Path: ':memory:'}\n")
    with pytest.raises(ConfigError, match="only the broker itself can read that"):
        run(command, "copy.db", "-config", "c.yaml")


def test_a_recovery_tells_every_table_and_what_to_do_next() -> None:
    make("x.db", 3)
    code, lines = run("recover", "x.db", "x.db.recovered")
    assert code == ExitCode.OK
    assert lines == [
        "retainedmessages: 1 rows",
        "mcparchive: 3 rows",
        "sessions: 1 rows",
        "queuedmessages: 3 rows",
        "subscriptions: 0 rows",
        "queuedmessagesclients: 3 rows",
        "open_ids: 0 rows",
        "inflight: 0 rows",
        f"x.db.recovered: {Path('x.db.recovered').stat().st_size} bytes, everything was read",
        "look at it, then put it in the database's place with: monstermq db restore x.db.recovered",
    ]


def test_a_recovery_that_misses_something_says_so_and_fails() -> None:
    make("x.db", 3)
    with closing(sqlite3.connect("x.db")) as connection:
        connection.execute("UPDATE mcparchive SET time = 'noon' WHERE position = 2")
        connection.execute("DELETE FROM queuedmessages WHERE position = 3")
        connection.execute("CREATE TABLE notes (x)")
        connection.commit()
    code, lines = run("recover", "x.db", "new.db")
    assert code == ExitCode.FAILURE
    assert "mcparchive: 2 rows, 1 could not be read" in lines
    assert "1 queue rows left out: their other half was lost" in lines
    assert "notes: left out, not a table of MonsterMQ" in lines
    assert lines[-2].endswith("bytes, not everything could be read")
    assert archived("new.db") == 2


# PostgreSQL

MIXED = """\
SessionStoreType: SQLITE
RetainedStoreType: POSTGRES
SQLite: {Path: x.db}
ArchiveGroups:
  - {Name: mine, LastValType: POSTGRES, ArchiveType: POSTGRES}
  - {Name: old, Enabled: false, ArchiveType: POSTGRES}
Postgres: {Url: "postgresql://me:s%65cret@db1,db2:5433/m%20m?sslmode=require", Pass: s3cret}
"""
THERE = "retained messages, last values of mine, history of mine in PostgreSQL at "
ADDRESS = (
    "'--dbname=postgresql://me@db1:5432,db2:5433/m%20m"
    "?sslmode=require&target_session_attrs=read-write'"
)


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as refused:
        run(*arguments)
    assert "s3cret" not in str(refused.value)
    assert "secret" not in str(refused.value)
    return str(refused.value)


def test_a_backup_says_what_is_not_in_it_and_how_that_is_copied() -> None:
    make("x.db", 3)
    Path("c.yaml").write_text(MIXED)
    code, lines = run("backup", "copy.db", "-config", "c.yaml")
    assert code == ExitCode.OK
    assert lines == [
        f"copy.db: {Path('copy.db').stat().st_size} bytes, a copy of x.db",
        f"not in it: {THERE}db1:5432,db2:5433/m m; copy that, also while the broker runs, with",
        f"    pg_dump --format=custom --file=copy.db.dump {ADDRESS}",
    ]
    assert archived("copy.db") == 3


def test_a_restore_says_what_it_has_left_and_how_to_go_back_there() -> None:
    make("x.db", 3)
    Path("c.yaml").write_text(MIXED)
    run("backup", "copy.db", "-config", "c.yaml")
    code, lines = run("restore", "copy.db", "-config", "c.yaml")
    assert code == ExitCode.OK
    assert lines[-2].startswith(f"left as it is: {THERE}")
    assert lines[-1].startswith("    pg_restore --clean --if-exists ")
    assert lines[-1].endswith(f" {ADDRESS} copy.db.dump")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("backup", f"pg_dump --format=custom --file=copy.db {ADDRESS}"),
        (
            "restore",
            f"pg_restore --clean --if-exists --no-owner --single-transaction {ADDRESS} copy.db",
        ),
    ],
)
def test_where_all_is_in_postgresql_the_command_is_refused_with_the_line_to_type(
    command: str, line: str
) -> None:
    Path("c.yaml").write_text(MIXED.replace(": SQLITE", ": POSTGRES"))
    said = refusal(command, "copy.db", "-config", "c.yaml")
    assert "nothing of this configuration is in a SQLite file" in said
    assert "sessions, " + THERE in said
    assert said.splitlines()[-1] == f"    {line}"
    assert not Path("copy.db").exists()


def test_a_database_that_no_tool_of_ours_copies_is_refused_without_a_line() -> None:
    Path("c.yaml").write_text("SessionStoreType: CRATEDB\n")
    assert refusal("backup", "copy.db", "-config", "c.yaml").endswith("the db commands are for")


def test_a_copy_of_postgresql_is_told_from_a_damaged_file() -> None:
    make("x.db", 1)
    before = Path("x.db").read_bytes()
    Path("copy.dump").write_bytes(b"PGDMP\1\x0e")
    said = refusal("restore", "copy.dump", "-config", "c.yaml")
    assert said == "copy.dump is a copy of a PostgreSQL database, which pg_restore reads"
    assert said == refusal("recover", "copy.dump", "new.db")
    Path("c.yaml").write_text(MIXED)
    said = refusal("restore", "copy.dump", "-config", "c.yaml")
    assert said.splitlines()[-1].endswith(f"{ADDRESS} copy.dump")
    assert Path("x.db").read_bytes() == before


@pytest.mark.parametrize("address", ["postgresql://a:s3cret@b/c", "jdbc:postgresql://b/c"])
def test_a_server_is_not_recovered(address: str) -> None:
    assert "reads the file of a SQLite database" in refusal("recover", address, "new.db")


# The process


def ended(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "monstermq", "db", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_the_process_ends_with_the_documented_codes() -> None:
    make("x.db", 1)
    Path("noise").write_bytes(b"\xa5" * 10_000)
    Path("empty").touch()
    Path("postgres.yaml").write_text("SessionStoreType: POSTGRES\n")
    for arguments, code in {
        ("recover", "x.db", "new.db"): ExitCode.OK,
        ("recover", "noise", "other.db"): ExitCode.STORE_DAMAGED,
        ("recover", "empty", "other.db"): ExitCode.STORE_DAMAGED,
        ("recover", "x.db", "noise"): ExitCode.CONFIG,
        ("recover", "missing", "other.db"): ExitCode.FAILURE,
        ("restore", "new.db", "-config", "c.yaml"): ExitCode.OK,
        ("restore", "noise", "-config", "c.yaml"): ExitCode.STORE_DAMAGED,
        ("backup", "x.db-wal", "-config", "c.yaml"): ExitCode.CONFIG,
        ("backup", "noise", "-config", "c.yaml"): ExitCode.CONFIG,
        ("backup", "copy.db", "-config", "postgres.yaml"): ExitCode.CONFIG,
        ("restore", "new.db", "-config", "postgres.yaml"): ExitCode.CONFIG,
        ("recover", "postgresql://localhost/monster", "other.db"): ExitCode.CONFIG,
    }.items():
        status, error = ended(*arguments)
        assert (arguments, status) == (arguments, code), error
        assert "Traceback" not in error
