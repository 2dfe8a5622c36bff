"""The ``db`` commands: copy the database, go back to a copy, save what a damaged one holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TextIO

from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite.backup import backup_file, restore_file
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.stores.sqlite.recovery_table import RecoveredTable


@dataclass(frozen=True, slots=True, kw_only=True)
class BackUp:
    """Copy the database to ``target``; ``force`` replaces whatever is there."""

    config: Path | None
    target: Path
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Put a copy of ``backup`` in the place of the database."""

    config: Path | None
    backup: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """Copy what can be read of a damaged database into a new one."""

    source: Path
    target: Path


def back_up(invocation: BackUp, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Copy the configured SQLite database, also while a broker runs on it.

    Raises:
        ConfigError: The configuration is wrong, its database is in memory, or the target is
            refused.
        StartupError, StoreError: The database cannot be read, or the copy cannot be written.
    """
    database = _configured_database(invocation.config, environ)
    copied = backup_file(database, invocation.target, force=invocation.force)
    replaced = ", an older file was replaced" if copied.replaced else ""
    output.write(f"{invocation.target}: {copied.size} bytes{replaced}\n")
    return ExitCode.OK


def restore(invocation: Restore, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Put a copy of a backup in the place of the configured database; the old one is kept.

    Raises:
        ConfigError: The configuration is wrong, its database is in memory, or the backup is it.
        StartupError: A broker runs on the database, or the backup is not ours.
        StoreError: The backup cannot be used, or the database cannot be replaced.
    """
    database = _configured_database(invocation.config, environ)
    restored = restore_file(invocation.backup, database)
    output.write(f"{database}: restored from {invocation.backup}, {restored.size} bytes\n")
    if restored.aside:
        output.write(f"what was there before is now {', '.join(map(str, restored.aside))}\n")
    return ExitCode.OK


def recover(invocation: Recover, output: TextIO) -> ExitCode:
    """Copy what can be read of a damaged database, and say what could not.

    Returns:
        ``FAILURE`` if the new database is there, but something is missing in it.

    Raises:
        ConfigError: The new name is taken.
        StartupError: A broker runs on the damaged database, or it is not ours.
        StoreError: Nothing can be read, or the new database cannot be written.
    """
    target = invocation.target
    recovered = recover_file(invocation.source, target)
    output.writelines(f"{_told(table)}\n" for table in recovered.tables)
    if recovered.dropped:
        output.write(f"{recovered.dropped} queue rows left out: their other half was lost\n")
    output.writelines(
        f"{name}: left out, not a table of MonsterMQ\n" for name in recovered.left_out
    )
    everything = "everything was read" if recovered.complete else "not everything could be read"
    output.write(
        f"{target}: {recovered.size} bytes, {everything}\n"
        f"look at it, then put it in the database's place with: monstermq db restore "
        f"{quote(str(target))}\n"
    )
    return ExitCode.OK if recovered.complete else ExitCode.FAILURE


def _told(table: RecoveredTable) -> str:
    copied = f"{table.name}: {table.rows} rows"
    if table.lost is None:
        return f"{copied}, others could not be read"
    return f"{copied}, {table.lost} could not be read" if table.lost else copied


def _configured_database(config: Path | None, environ: Mapping[str, str]) -> Path:
    sqlite = load_config(config, environ).config.sqlite
    if sqlite.in_memory:
        raise ConfigError("SQLite.Path is :memory:, and only the broker itself can read that")
    return Path(sqlite.path)
