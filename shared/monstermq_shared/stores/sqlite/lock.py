"""The lock beside a database: one broker at a time, and a trace of one that did not end well."""

import fcntl
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite.errors import unwritable
from monstermq_shared.stores.sqlite.files import LOCK, PRIVATE, beside, place_of

_CONTENT_MAX = 20
_ANOTHER_NAME = "unknown: it has opened the file by another name, or its lock file was removed"
_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


class DatabaseLock:
    """A lock file that is held open; it has the holder's process id, and is empty afterwards.

    The database's own locks are taken per transaction, so they do not keep a second broker out.
    The file tells who holds it, also while there is no database yet. Since it goes by the
    database's name, and a file may have several, the database itself is locked as well: see
    ``hold``. On Linux such a lock (flock) and SQLite's (fcntl) know nothing of each other.

    Attributes:
        ended_cleanly: Whether whoever held it last gave it back.
        made_folder: Whether the database's folder had to be made.
        descriptor: The database, open, once it is held. A process loses SQLite's locks on a file
            when it closes any descriptor of it, so it stays open until SQLite has closed.
    """

    def __init__(self, file: TextIO, last_holder: str, *, made_folder: bool) -> None:
        self._file = file
        self._last_holder = last_holder
        self.ended_cleanly = not last_holder
        self.made_folder = made_folder
        self.descriptor: int | None = None

    @classmethod
    def acquire(cls, database: Path) -> Self:
        """Lock a database, which need not exist yet; its folder is made.

        Raises:
            StartupError: Another process holds it, or the lock file cannot be written.
        """
        path = beside(database, LOCK)
        try:
            made_folder = not path.parent.is_dir()
            path.parent.mkdir(parents=True, exist_ok=True)
            # The lock is what the file is for: it is kept open, and closed with the database.
            # For its owner alone: whoever can read it can hold the lock.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            file = os.fdopen(os.open(path, flags, PRIVATE), "a+", encoding="utf-8")
        except OSError as exc:
            raise unwritable(path, exc) from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            last_holder = _content(file)
            _write(file, f"{os.getpid()}\n")
        except BlockingIOError as exc:
            holder = _content(file) or "unknown"
            file.close()
            raise in_use(database, holder) from exc
        except OSError as exc:
            with suppress(OSError):  # closing tries to write what could not be written
                file.close()
            raise unwritable(path, exc) from exc
        return cls(file, last_holder, made_folder=made_folder)

    def hold(self, database: Path) -> int:
        """Lock the database itself, which is there by now; return its descriptor.

        Raises:
            StartupError: Another process holds it under another name, it has several names, or it
                cannot be written.
        """
        try:
            self.descriptor = os.open(database, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise in_use(database, _ANOTHER_NAME) from exc
        except OSError as exc:
            raise unwritable(database, exc) from exc
        check_only_name(database)
        return self.descriptor

    def close(self) -> None:
        """Give the database free, and leave the file empty. SQLite has closed it before."""
        self._end("")

    def abandon(self) -> None:
        """Give the database free, and leave the file as it was: nothing has been done."""
        self._end(self._last_holder)

    def leave(self) -> None:
        """Leave the file as it is, and the database locked until the process ends.

        For when SQLite cannot close it: see ``Writer.close``.
        """
        with suppress(OSError):
            self._file.close()

    def _end(self, content: str) -> None:
        with suppress(OSError):  # the lock itself goes with the file, whatever is written in it
            _write(self._file, content)
        with suppress(OSError):
            self._file.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def check_not_in_use(database: Path) -> None:
    """Refuse a database that a broker runs on, under whatever name; nothing is created.

    Raises:
        StartupError: One does.
        OSError: It cannot be read.
    """
    with suppress(FileNotFoundError), beside(database, LOCK).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise in_use(database, _content(file) or "unknown") from exc
    check_not_held(database)


def check_not_held(database: Path) -> None:
    """Refuse a database that a broker has open under another name, or without its lock file.

    Not in a process that has it open itself.

    Raises:
        StartupError: One has.
        OSError: It cannot be read.
    """
    with database.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise in_use(database, _ANOTHER_NAME) from exc


def check_only_name(database: Path) -> None:
    """Refuse a database that has several names, or is mounted by itself.

    SQLite keeps the write-ahead log beside the name it is given: each name would have its own, and
    what is in the other is lost, or ends the database.

    Raises:
        StartupError: It has, or is.
        OSError: It cannot be looked at.
    """
    place = place_of(database)
    folder = shlex.quote(str(place.parent))
    names = place.stat().st_nlink
    if names > 1 and place.is_file():
        raise StartupError(
            f"{database} has {names} names (hard links), and its write-ahead log lies beside only "
            f"one of them; find all with: find / -samefile {shlex.quote(str(place))}, and remove "
            "all but the one that a broker ran on last",
            exit_code=ExitCode.STORE_IN_USE,
        )
    if place in _mount_points():
        raise StartupError(
            f"{database} is mounted by itself, so its write-ahead log would lie outside of the "
            f"mount and be lost with what is there; mount the folder it is in as {folder}",
            exit_code=ExitCode.STORE_IN_USE,
        )


def _mount_points() -> set[Path]:
    """Return where something is mounted, as this process sees it; nothing where Linux is not."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return set()
    # Proc writes a space, a tab, a line feed and a backslash as three octal digits each.
    escaped = (line.split(b" ")[4] for line in lines)
    return {Path(os.fsdecode(_OCTAL.sub(lambda m: bytes([int(m[1], 8)]), at))) for at in escaped}


def in_use(database: Path, holder: str) -> StartupError:
    """Return the error for a database that a running process holds."""
    return StartupError(
        f"{database} is in use by another broker (process {holder}); end that one, or set "
        "SQLite.Path to another file",
        exit_code=ExitCode.STORE_IN_USE,
    )


def _content(file: TextIO) -> str:
    file.seek(0)
    return file.read(_CONTENT_MAX).strip()


def _write(file: TextIO, content: str) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(content)
    file.flush()
