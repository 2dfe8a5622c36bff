"""Copies of a database: made while it is in use, and put back in its place."""

import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from monstermq_shared.errors import ConfigError, StoreUnavailable
from monstermq_shared.stores.sqlite.copying import copy_to, write_copy
from monstermq_shared.stores.sqlite.errors import damaged, translated
from monstermq_shared.stores.sqlite.files import (
    INDEX,
    JOURNAL,
    LOG,
    beside,
    check_header,
    check_no_companion,
    complete_or_absent,
    family,
    place_of,
    reading,
    sync,
)
from monstermq_shared.stores.sqlite.lock import DatabaseLock, check_not_held, check_only_name
from monstermq_shared.stores.sqlite.opening import check_ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy that was made: its bytes, and whether it replaced an older file."""

    size: int
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A backup that was put in place: its bytes, and the new names of what was there before."""

    size: int
    aside: tuple[Path, ...]


def backup_file(source: Path, target: Path, *, force: bool = False) -> Copied:
    """Copy a database on a connection of its own, also while a broker is using it.

    Args:
        source: The database.
        target: The copy. An older MonsterMQ database there is replaced.
        force: Whether any other file is replaced as well.

    Raises:
        ConfigError: The target is the database or lies beside it as a part of it, is in use, or is
            a file that only ``force`` replaces.
        StartupError: The source is not ours, or empty, or has several names.
        StoreUnavailable: There is no such database, or the target cannot be written.
        StoreDamaged: The source is not a database, is corrupt, or of an unknown schema.
    """
    _check_source(source)
    check_only_name(source)
    return backup_open_file(source, target, force=force)


def backup_open_file(source: Path, target: Path, *, force: bool = False) -> Copied:
    """Like ``backup_file``, of a database that this process has open.

    It is not touched but through SQLite: as a process closes any descriptor of a file, it loses
    all of SQLite's locks on it.
    """
    replaced = _check_target(source, target, force=force)
    with translated(str(source)):
        connection = sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True)
    try:
        with translated(str(source)):
            check_ours(connection, str(source))
        copy_to(connection, target, read=str(source))
    finally:
        connection.close()
    return Copied(size=target.stat().st_size, replaced=replaced)


def restore_file(backup: Path, database: Path) -> Restored:
    """Put a copy of a backup in the place of a database, which is moved aside.

    The old database keeps its name with the time appended, and so do the files that belong to it:
    ``x.db.20260115T120000Z`` and ``x.db.20260115T120000Z-wal``; also a log whose database is
    gone. A crash leaves the old one in place, or both beside it, but never a part of one.

    Raises:
        ConfigError: The backup is the database itself.
        StartupError: A broker runs on the database; or the backup is not ours, or empty.
        StoreDamaged: The backup is not a database, is corrupt, or of an unknown schema.
        StoreUnavailable: There is no such backup, or the database's folder cannot be written.
    """
    _check_source(backup)
    if place_of(backup) in family(database):
        raise ConfigError(f"{backup} is the database itself, or a part of it; name a backup")
    with translated(str(backup)), reading(backup) as source:
        check_ours(source, str(backup))
        ((finding,),) = source.execute("PRAGMA quick_check(1)").fetchall()
        if finding != "ok":
            raise damaged(str(backup), finding)
        lock = DatabaseLock.acquire(database)
        try:
            if database.exists():
                check_not_held(database)
            aside = _exchange(source, database, read=str(backup))
        except OSError as exc:
            lock.abandon()
            raise StoreUnavailable(f"{database} cannot be replaced: {exc}") from exc
        except BaseException:
            lock.abandon()
            raise
        lock.close()
    return Restored(size=database.stat().st_size, aside=aside)


def _check_source(source: Path) -> None:
    try:
        if not source.is_file():
            raise StoreUnavailable(f"{source}: there is no such database file")
        check_header(source)
    except OSError as exc:
        raise StoreUnavailable(f"{source} cannot be read: {exc}") from exc


def _check_target(source: Path, target: Path, *, force: bool) -> bool:
    """Refuse a target that is worth more than a copy; return whether it is replaced."""
    place = place_of(target)
    if place == place_of(source):
        raise ConfigError(f"{target} is the database itself; choose another file")
    if not family(source).isdisjoint(family(target)):
        raise ConfigError(f"{target} belongs to the database {source}; choose another name")
    if not place.exists():
        check_no_companion(target)
        return False
    if not place.is_file():
        raise StoreUnavailable(f"{target} is not a file; choose another name")
    for part in (LOG, INDEX, JOURNAL):
        if os.path.lexists(beside(place, part)):
            raise ConfigError(
                f"{target} is a database in use, or one that was not closed: there is "
                f"{target}{part}; choose another name"
            )
    if not force and not _is_ours(place):
        raise ConfigError(
            f"{target} exists and is no MonsterMQ database; choose another name, or replace it "
            "with --force"
        )
    return True


def _is_ours(path: Path) -> bool:
    try:
        with reading(path) as connection:
            query = "SELECT 1 FROM sqlite_schema WHERE name = 'monstermq_meta'"
            return connection.execute(query).fetchone() is not None
    except sqlite3.Error:
        return False


def _exchange(source: sqlite3.Connection, database: Path, *, read: str) -> tuple[Path, ...]:
    """Write the copy, then move the old database aside, then give the copy its name."""
    place = place_of(database)
    with complete_or_absent(database) as partial:
        write_copy(source, partial, read=read)
        _give_to_owner(partial, place)
        return _move_aside(place)


def _give_to_owner(partial: Path, place: Path) -> None:
    """If root restores: let the copy belong to whom the database belonged, or its folder does."""
    if os.geteuid() == 0:
        owner = (place if place.exists() else place.parent).stat()
        os.chown(partial, owner.st_uid, owner.st_gid)


def _move_aside(place: Path) -> tuple[Path, ...]:
    """Give a database, and what lies beside it, other names; return those, if there was anything.

    The database goes first: without it, a start refuses to begin a new one beside its log.
    """
    time = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    moves = [
        (found, place.with_name(f"{place.name}.{time}{part}"))
        for part in ("", LOG, INDEX, JOURNAL)
        if os.path.lexists(found := place.with_name(place.name + part))
    ]
    for _, aside in moves:
        if os.path.lexists(aside):
            raise FileExistsError(f"{aside} exists; try again in a second")
    for found, aside in moves:
        found.rename(aside)
    sync(place.parent)
    return tuple(aside for _, aside in moves)
