"""Whether the files that a connection has open are still those that bear the database's name.

SQLite does not notice when a file is taken away under it: on Linux it goes on with what it has
open, and all it commits is gone with the process.
"""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.sqlite.files import INDEX, LOG, beside

# The formats are documented in https://www.sqlite.org/walformat.html and fileformat2.html.
_HEADER_SIZE = 100  # of the database file: among others its size and change counter
_LOG_HEADER_SIZE = 32
_LOG_SALT = slice(16, 24)
_FRAME_HEADER_SIZE = 24
_INDEX_VERSION = 3007000
_INDEX_COPY_SIZE = 48
# Of the index: version, page size, frames, the log's salt; the same again; then how many frames
# have been moved into the database, and up to which one that has been begun.
_INDEX = struct.Struct("=I 10x H I 12x 8s 8x 48x I 28x I")


@dataclass(frozen=True, slots=True)
class Loss:
    """What has happened to the files.

    Attributes:
        what: The sentence's subject and verb: "x.db has been deleted".
        whole: Whether the open connection still sees all that was committed.
    """

    what: str
    whole: bool


class _Index(NamedTuple):
    """What SQLite itself knows of the log.

    Attributes:
        frame_size: Bytes of a frame: a page and its header.
        frames: How many frames of the log count.
        moves: Changes with every checkpoint, before it writes its first page.
        settled: Whether no checkpoint is half done.
        moved: Whether all frames are in the database.
    """

    frame_size: int
    frames: int
    moves: tuple[bytes, int]
    settled: bool
    moved: bool


class FileWatch:
    """Compares the files by their names with the ones that are open; a few system calls.

    Only the writer's thread uses it, and only between transactions. What other programs may do to a
    database in use, such as a checkpoint of the ``sqlite3`` command, is no finding.

    Args:
        database: The database; a connection is open, and has written.
        descriptor: The same, open; it is not closed here.
    """

    def __init__(self, database: Path, descriptor: int) -> None:
        self._database = descriptor
        log, index = beside(database, LOG), beside(database, INDEX)
        # Closing one on the index would cost this process SQLite's locks on it: see ``close``.
        self._log, self._index = (
            os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (log, index)
        )
        # By the name that was given, since a link may be made to lead elsewhere.
        self._name, self._log_name = str(database.absolute()), str(log)
        self._open = {
            self._name: descriptor,
            self._log_name: self._log,
            str(index): self._index,
        }
        self._moves: tuple[bytes, int] | None = None
        self._content: tuple[int, bytes] = (0, b"")

    def look(self) -> Loss | None:
        """Return what has happened, None if all is as it should be.

        Raises:
            StoreUnavailable: The files cannot be looked at now.
        """
        try:
            return self._missing() or self._changed()
        except OSError as exc:
            raise StoreUnavailable(f"{self._name} cannot be looked at: {exc}") from exc

    def strays(self) -> list[str]:
        """Return our log and index where they lie beside a database that is not ours.

        Whoever opens that one would play them back into it.

        Raises:
            OSError: There is no database, or it cannot be looked at.
        """
        if os.path.samestat(os.stat(self._name), os.fstat(self._database)):
            return []
        strays = []
        for path, descriptor in self._open.items():
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    strays.append(path)
        return strays

    def close(self) -> None:
        """Close what was opened. SQLite has closed the database before."""
        os.close(self._log)
        os.close(self._index)

    def _missing(self) -> Loss | None:
        """Compare device and inode."""
        for path, descriptor in self._open.items():
            opened = os.fstat(descriptor)
            with suppress(FileNotFoundError, NotADirectoryError):
                if os.path.samestat(os.stat(path), opened):
                    continue
                return Loss(f"{path} has been replaced by another file", whole=True)
            gone = "given another name" if opened.st_nlink else "deleted"
            return Loss(f"{path} has been {gone}", whole=True)
        return None

    def _changed(self) -> Loss | None:
        """Compare the content with what SQLite says it has written."""
        index = self._read_index()
        if index is None:
            return None
        if index.frames and not self._has_log(index):
            return Loss(f"{self._log_name} has been truncated or overwritten", whole=index.moved)
        content = (os.fstat(self._database).st_size, os.pread(self._database, _HEADER_SIZE, 0))
        if index.settled and index.moves == self._moves and content != self._content:
            change = "truncated" if content[0] < self._content[0] else "overwritten"
            return Loss(f"{self._name} has been {change}", whole=False)
        # While a checkpoint is half done, the next look has nothing to compare with.
        self._moves = index.moves if index.settled else None
        self._content = content
        return None

    def _has_log(self, index: _Index) -> bool:
        needed = _LOG_HEADER_SIZE + index.frames * index.frame_size
        header = os.pread(self._log, _LOG_HEADER_SIZE, 0)
        return os.fstat(self._log).st_size >= needed and header[_LOG_SALT] == index.moves[0]

    def _read_index(self) -> _Index | None:
        """Return what it says, None if somebody is just writing it, or a later SQLite's."""
        data = os.pread(self._index, _INDEX.size, 0)
        if len(data) < _INDEX.size or data[:48] != data[_INDEX_COPY_SIZE : 2 * _INDEX_COPY_SIZE]:
            return None
        version, page_size, frames, salt, moved, begun = _INDEX.unpack(data)
        if version != _INDEX_VERSION:
            return None
        size = 65_536 if page_size == 1 else page_size
        return _Index(
            frame_size=size + _FRAME_HEADER_SIZE,
            frames=frames,
            moves=(salt, begun),
            settled=moved == begun,
            moved=moved == frames,
        )
