"""Reads of what is retained: asked for, and those that have to wait for the table (V2)."""

from collections.abc import Iterator, Mapping, Sequence

from monstermq_shared.records import Record
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.retained import RetainedMessages, RetainedRead


class RetainedReads:
    """The reads of all replays.

    Attributes:
        retained: Whose replays they are; set once both are there.

    Args:
        overlay: What is retained and not in the table yet.
        chores: Does what is done bit by bit.
    """

    retained: RetainedMessages[BusSession]

    def __init__(self, overlay: BusOverlay, chores: Chores) -> None:
        self._overlay = overlay
        self._chores = chores
        self._asked: list[RetainedRead] = []
        self._early: list[RetainedRead] = []

    def ask(self, read: RetainedRead) -> None:
        """A page is wanted."""
        self._asked.append(read)

    def take(self) -> list[RetainedRead]:
        """Return what has to be read; each read is answered by a page, once."""
        reads = self._asked[:]
        self._asked.clear()
        return reads

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The table shows the partitions up to here."""
        self._overlay.reflected(positions)
        early, self._early = self._early, []
        if self._overlay.is_complete():
            self._asked += early
        else:
            self._chores.add(self._still_early(early), len(early))

    def _still_early(self, reads: Sequence[RetainedRead]) -> Iterator[int]:
        """Keep the reads that somebody still waits for: clients come and go, the table does not."""
        for read in reads:
            if self.retained.awaits(read):
                self._early.append(read)
            else:
                self.retained.page(read, [])
            yield 1

    def page(
        self, read: RetainedRead, records: Sequence[Record], reflected: Mapping[int, int]
    ) -> None:
        """Bring a page, with up to where each partition was in it."""
        if self.retained.awaits(read) and not self._overlay.is_shown_by(reflected):
            # What is missing in between is kept nowhere: wait for the table.
            self._early.append(read)
        else:
            self.retained.page(read, records)
