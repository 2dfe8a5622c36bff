"""The lock beside a database: one broker at a time, and a trace of one that did not end well."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sqlite.errors import unwritable
from monstermq_shared.stores.sqlite.files import LOCK, beside

_CONTENT_MAX = 20


class DatabaseLock:
    """A lock file that is held open; it has the holder's process id, and is empty afterwards.

    The database's own locks are taken per transaction, so they do not keep a second broker out.

    Attributes:
        ended_cleanly: Whether whoever held it last gave it back.
        made_folder: Whether the database's folder had to be made.
    """

    def __init__(self, file: TextIO, last_holder: str, *, made_folder: bool) -> None:
        self._file = file
        self._last_holder = last_holder
        self.ended_cleanly = not last_holder
        self.made_folder = made_folder

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
            file = path.open("a+", encoding="utf-8")
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

    def close(self) -> None:
        """Give the database free, and leave the file empty."""
        self._end("")

    def abandon(self) -> None:
        """Give the database free, and leave the file as it was: nothing has been done."""
        self._end(self._last_holder)

    def _end(self, content: str) -> None:
        with suppress(OSError):  # the lock itself goes with the file, whatever is written in it
            _write(self._file, content)
        with suppress(OSError):
            self._file.close()


def check_not_in_use(database: Path) -> None:
    """Refuse a database that a broker runs on; nothing is created.

    Raises:
        StartupError: One does.
    """
    with suppress(FileNotFoundError), beside(database, LOCK).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise in_use(database, _content(file) or "unknown") from exc


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
