"""The ``db`` commands: copy the database, go back to a copy, save what a damaged one holds.

They work on the SQLite file. What a configuration keeps in PostgreSQL is copied by PostgreSQL's own
tools, and the commands say how to call them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TextIO

from monstermq.invocations import BackUp, Recover, Restore
from monstermq.postgres_tools import dump_command, restore_command
from monstermq_shared.config import BrokerConfig, StoreType, load_config
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.config.postgres_urls import describe
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite.backup import backup_file, restore_file
from monstermq_shared.stores.sqlite.recovery import recover_file
from monstermq_shared.stores.sqlite.recovery_table import RecoveredTable

_DUMP_BEGINS = b"PGDMP"
_ADDRESSES = ("postgres:", "postgresql:", "jdbc:")


def back_up(invocation: BackUp, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Copy the configured SQLite database, also while a broker runs on it.

    Raises:
        ConfigError: The configuration is wrong, nothing of it is in a SQLite file, or the target is
            refused.
        StartupError, StoreError: The database cannot be read, or the copy cannot be written.
    """
    config, target = load_config(invocation.config, environ).config, invocation.target
    if not any(_kept_in(config, StoreType.SQLITE)):
        raise _nothing_in_sqlite(_to_dump(config, target))
    source = _file_of(config)
    copied = backup_file(source, target, force=invocation.force)
    replaced = ", an older file was replaced" if copied.replaced else ""
    output.write(f"{target}: {copied.size} bytes, a copy of {source}{replaced}\n")
    elsewhere = _to_dump(config, target.with_name(f"{target.name}.dump"))
    output.write(f"not in it: {elsewhere}\n" if elsewhere else "")
    return ExitCode.OK


def restore(invocation: Restore, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Put a copy of a backup in the place of the configured database; the old one is kept.

    Raises:
        ConfigError: The configuration is wrong, nothing of it is in a SQLite file, or the backup is
            that file, or one of PostgreSQL's.
        StartupError: A broker runs on the database, or the backup is not ours.
        StoreError: The backup cannot be used, or the database cannot be replaced.
    """
    config, backup = load_config(invocation.config, environ).config, invocation.backup
    elsewhere = _to_restore(config, backup)
    if not any(_kept_in(config, StoreType.SQLITE)):
        raise _nothing_in_sqlite(elsewhere)
    _check_no_dump(backup, elsewhere)
    database = _file_of(config)
    restored = restore_file(backup, database)
    output.write(f"{database}: restored from {backup}, {restored.size} bytes\n")
    if restored.aside:
        output.write(f"what was there before is now {', '.join(map(str, restored.aside))}\n")
    elsewhere = _to_restore(config, backup.with_name(f"{backup.name}.dump"))
    output.write(f"left as it is: {elsewhere}\n" if elsewhere else "")
    return ExitCode.OK


def recover(invocation: Recover, _environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Copy what can be read of a damaged database, and say what could not.

    Returns:
        ``FAILURE`` if the new database is there, but something is missing in it.

    Raises:
        ConfigError: The new name is taken, or what is damaged is no file of SQLite.
        StartupError: A broker runs on the damaged database, or it is not ours.
        StoreError: Nothing can be read, or the new database cannot be written.
    """
    source, target = invocation.source, invocation.target
    if str(source).startswith(_ADDRESSES):
        raise ConfigError(
            "db recover reads the file of a SQLite database; for a damaged PostgreSQL database go "
            "back to a copy, with the line that db restore tells, or to a standby"
        )
    _check_no_dump(source, "")
    recovered = recover_file(source, target)
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


def _file_of(config: BrokerConfig) -> Path:
    if config.sqlite.in_memory:
        raise ConfigError("SQLite.Path is :memory:, and only the broker itself can read that")
    return Path(config.sqlite.path)


def _kept_in(config: BrokerConfig, store_type: StoreType) -> Iterator[str]:
    """Yield what the configuration keeps in the database of a type."""
    if config.session_store_type is store_type:
        yield "sessions"
    if config.retained_store_type is store_type:
        yield "retained messages"
    for group in config.archive_groups:
        if group.enabled and group.last_val_type is store_type:
            yield f"last values of {group.name}"
        if group.enabled and group.archive_type is store_type:
            yield f"history of {group.name}"


def _in_postgres(config: BrokerConfig) -> str:
    """Say what is in PostgreSQL, and where that is; empty if nothing is."""
    kept = ", ".join(_kept_in(config, StoreType.POSTGRES))
    return f"{kept} in PostgreSQL at {describe(postgres_connection(config))}" if kept else ""


def _to_dump(config: BrokerConfig, target: Path) -> str:
    """Say how to copy what is in PostgreSQL; empty if nothing is."""
    there = _in_postgres(config)
    command = dump_command(postgres_connection(config), target)
    return there and f"{there}; copy that, also while the broker runs, with\n    {command}"


def _to_restore(config: BrokerConfig, backup: Path) -> str:
    """Say how to go back to a copy in PostgreSQL; empty if nothing is there."""
    there = _in_postgres(config)
    command = restore_command(postgres_connection(config), backup)
    return there and f"{there}; stop the broker and go back to a copy of that with\n    {command}"


def _nothing_in_sqlite(elsewhere: str) -> ConfigError:
    return ConfigError(
        "nothing of this configuration is in a SQLite file, which is what the db commands are for"
        + (f": {elsewhere}" if elsewhere else "")
    )


def _check_no_dump(path: Path, how: str) -> None:
    """Refuse what ``pg_dump`` has written."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(_DUMP_BEGINS))
    except OSError:
        return  # which whoever needs it will say
    if beginning == _DUMP_BEGINS:
        raise ConfigError(
            f"{path} is a copy of a PostgreSQL database, which pg_restore reads"
            + (f": {how}" if how else "")
        )
