"""The internal bus: the log of one process, in memory, one partition.

What is durable are the views; the log holds only what they have not committed yet, and counts. An
offset is ``boot << 40 | counter``: the boot number is committed at start, so an offset that a
reader elsewhere may have seen is never used again for another message (design 11.2).
"""

from collections.abc import Sequence

from monstermq_shared.records import Record

BOOT_SHIFT = 40
"""The bits of an offset below the boot number: a million messages a second for twelve days."""


class InternalLog:
    """Hands out offsets and keeps records until the next turn takes them.

    Attributes:
        boot: The number of this run; see ``Database.boot``.
        next_offset: The offset the next message gets.
    """

    __slots__ = ("_records", "boot", "next_offset")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.next_offset = (boot << BOOT_SHIFT) + 1
        self._records: list[Record] = []

    def __len__(self) -> int:
        """Return how many records wait to be taken."""
        return len(self._records)

    def allot(self, count: int) -> int:
        """Give ``count`` consecutive offsets to messages; return the first of them."""
        first = self.next_offset
        self.next_offset = first + count
        return first

    def append(self, records: Sequence[Record]) -> None:
        """Keep records, whose offsets were allotted, for the views."""
        self._records.extend(records)

    def take(self) -> list[Record]:
        """Return the records appended since the last call."""
        records = self._records
        self._records = []
        return records

    def is_older(self, offset: int) -> bool:
        """Whether the offset belongs to an earlier run of the broker."""
        return offset >> BOOT_SHIFT != self.boot
