"""Whether the files that a connection has open are still those that bear the database's name.

SQLite does not notice when a file is taken away under it: on Linux it goes on with what it has
open, and all it commits is gone with the process.
"""

import mmap
import os
import struct
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


class _File:
    """A file that is open, and the name by which it should be found.

    Args:
        name: The name.
        descriptor: Where it is open.
    """

    __slots__ = ("_identity", "descriptor", "name")

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        opened = os.fstat(descriptor)
        self._identity = (opened.st_dev, opened.st_ino)

    def find(self) -> os.stat_result | None:
        """Return what bears the name, None if nothing does."""
        try:
            return os.stat(self.name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_same(self, status: os.stat_result) -> bool:
        """Tell whether that is the open file."""
        return (status.st_dev, status.st_ino) == self._identity

    def fate(self, status: os.stat_result | None) -> str:
        """Say what has become of it, if that is another file, or none."""
        if status is not None:
            return "replaced by another file"
        return "given another name" if os.fstat(self.descriptor).st_nlink else "deleted"


class FileWatch:
    """Compares the files by their names with the ones that are open.

    Only the writer's thread uses it, and only between transactions. What other programs may do to a
    database in use, such as a checkpoint of the ``sqlite3`` command, is no finding.

    Args:
        database: The database; a connection is open, and has written.
        descriptor: The same, open; it is not closed here.
    """

    def __init__(self, database: Path, descriptor: int) -> None:
        # By the name that was given, since a link may be made to lead elsewhere.
        self._database = _File(str(database.absolute()), descriptor)
        # Closing the one on the index would cost this process SQLite's locks on it: see ``close``.
        self._log, self._index = (
            _File(str(path), os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            for path in (beside(database, LOG), beside(database, INDEX))
        )
        self._files = (self._database, self._log, self._index)
        # A look costs five system calls, and each gives the interpreter's lock away; this is none.
        self._memory = mmap.mmap(self._index.descriptor, _INDEX.size, prot=mmap.PROT_READ)
        self._moves: tuple[bytes, int] | None = None
        self._content: tuple[int, bytes] = (0, b"")

    def look(self) -> Loss | None:
        """Return what has happened, None if all is as it should be.

        Raises:
            StoreUnavailable: The files cannot be looked at now.
        """
        try:
            found = [file.find() for file in self._files]
            for file, status in zip(self._files, found, strict=True):
                if status is None or not file.is_same(status):
                    return Loss(f"{file.name} has been {file.fate(status)}", whole=True)
            database, log, _ = found
            assert database is not None
            assert log is not None
            return self._changed(database.st_size, log.st_size)
        except OSError as exc:
            raise StoreUnavailable(f"{self._database.name} cannot be looked at: {exc}") from exc

    def strays(self) -> list[str]:
        """Return our log and index where they lie beside a database that is not ours.

        Whoever opens that one would play them back into it.

        Raises:
            OSError: There is no database, or it cannot be looked at.
        """
        if self._database.is_same(os.stat(self._database.name)):
            return []
        return [
            file.name
            for file in (self._log, self._index)
            if (status := file.find()) is not None and file.is_same(status)
        ]

    def close(self) -> None:
        """Close what was opened. SQLite has closed the database before."""
        self._memory.close()
        os.close(self._log.descriptor)
        os.close(self._index.descriptor)

    def _changed(self, size: int, log_size: int) -> Loss | None:
        """Compare the content with what SQLite says it has written."""
        index = self._read_index()
        if index is None:
            return None
        if index.frames and not self._has_log(index, log_size):
            return Loss(f"{self._log.name} has been truncated or overwritten", whole=index.moved)
        content = (size, os.pread(self._database.descriptor, _HEADER_SIZE, 0))
        if index.settled and index.moves == self._moves and content != self._content:
            change = "truncated" if size < self._content[0] else "overwritten"
            return Loss(f"{self._database.name} has been {change}", whole=False)
        # While a checkpoint is half done, the next look has nothing to compare with.
        self._moves = index.moves if index.settled else None
        self._content = content
        return None

    def _has_log(self, index: _Index, size: int) -> bool:
        header = os.pread(self._log.descriptor, _LOG_HEADER_SIZE, 0)
        needed = _LOG_HEADER_SIZE + index.frames * index.frame_size
        return size >= needed and header[_LOG_SALT] == index.moves[0]

    def _read_index(self) -> _Index | None:
        """Return what it says, None if somebody is just writing it, or a later SQLite's."""
        data = self._memory[:]
        if data[:_INDEX_COPY_SIZE] != data[_INDEX_COPY_SIZE : 2 * _INDEX_COPY_SIZE]:
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
