"""What was published here, kept until it is read back: delivered without decoding JSON (R4)."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from monstermq_shared.bus.ports import Entry
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.session import BusSession, Owed

RUN_OVERHEAD: Final = 500
"""Bytes that a run takes beside its messages, about."""


class OwnRun:
    """A run that was appended and has not been read back; the ticket of its append.

    Attributes:
        partition: Where it was appended.
        number: Grows from run to run.
        first: The sequence of its first message.
        stop: The sequence behind its last one.
        run: The messages.
        session: Who published it.
        size: Bytes it counts for; 0 once it was refused.
    """

    __slots__ = (
        "_owed",
        "_owner",
        "first",
        "number",
        "partition",
        "run",
        "session",
        "size",
        "stop",
    )

    def __init__(
        self,
        owner: "OwnRuns",
        partition: int,
        run: MessageRun,
        session: BusSession,
        owed: Owed | None,
    ) -> None:
        self._owner = owner
        self._owed = owed
        self.partition = partition
        self.number = self.first = self.stop = 0
        self.run = run
        self.session = session
        self.size = run.size + RUN_OVERHEAD

    def appended(self) -> None:
        """See ``Ticket``."""
        if self._owed is not None and self.run.epoch is None:
            self._owed.appended()

    def read_back(self) -> None:
        """It is read to its end: what can be fenced is acknowledged only now (R4)."""
        if self._owed is not None:
            self._owed.appended()

    def refused(self) -> None:
        """See ``Ticket``: it may never be read back, and must not be waited for."""
        self._owner.give_up(self)
        self.session.append_refused()


class OwnRuns:
    """All of them, per partition in order of sequence.

    Publishers are held by their size (``HoldLimits.backlog_size_max``), which bounds them.

    Attributes:
        size: Bytes of all of them.
        sizes: The same by partition.
        newest: The number of the newest run.

    Args:
        run: What this process' records carry.
        partitions: How many.
    """

    def __init__(self, run: bytes, partitions: int) -> None:
        self.size = 0
        self.sizes = [0] * partitions
        self.newest = 0
        self._run = run
        self._kept: list[deque[OwnRun]] = [deque() for _ in range(partitions)]

    def keep(self, own: OwnRun, first: int) -> None:
        """Keep a run until it is read back; its sequences begin there."""
        self.newest = own.number = self.newest + 1
        own.first = first
        own.stop = first + own.run.count
        self._kept[own.partition].append(own)
        self.size += own.size
        self.sizes[own.partition] += own.size

    def oldest(self) -> int:
        """Return the number of the oldest run; that of the next one if there is none."""
        oldest = self.newest + 1
        for kept in self._kept:
            while kept and not kept[0].size:
                kept.popleft()
            if kept and kept[0].number < oldest:
                oldest = kept[0].number
        return oldest

    def give_up(self, own: OwnRun) -> None:
        """Let a run count for nothing, and be waited for no more."""
        self.size -= own.size
        self.sizes[own.partition] -= own.size
        own.size = 0  # it stays where it is until those before it have gone

    def match(
        self, partition: int, entries: Sequence[Entry], index: int
    ) -> tuple[OwnRun, MessageRun, int] | None:
        """Find the run that an entry of this process begins or goes on with.

        Returns:
            The run, the messages of it that are read back here, and how many entries that are;
            None if it is not kept.
        """
        kept = self._kept[partition]
        sequence = entries[index].sequence
        # What is passed over was refused, and its sequences are never used again (R1).
        while kept and (kept[0].stop <= sequence or not kept[0].size):
            self._forget(partition)
        if not kept or kept[0].first > sequence:
            return None
        own = kept[0]
        if own.run.count == 1:
            self._forget(partition)
            return own, own.run, 1
        count = self._contiguous(entries, index, own.stop - sequence)
        begin = sequence - own.first
        run = own.run if count == own.run.count else own.run.part(begin, begin + count)
        if sequence + count == own.stop:
            self._forget(partition)
        return own, run, count

    def _contiguous(self, entries: Sequence[Entry], index: int, count_max: int) -> int:
        """Return how many entries from one on are ours and follow each other without a gap."""
        run = self._run
        sequence, offset = entries[index].sequence, entries[index].offset
        stop = min(index + count_max, len(entries))
        at = index + 1
        while at < stop:
            entry = entries[at]
            if entry.sequence != sequence + at - index or entry.writer != run:
                break
            if entry.offset != offset + at - index:  # what stood between was there before (R1)
                break
            at += 1
        return at - index

    def _forget(self, partition: int) -> None:
        self.give_up(self._kept[partition].popleft())

    def clear(self, partition: int) -> None:
        """Forget all of a partition that is read no more (R6).

        What waits there for its PUBREC would wait for ever, and all answers behind it (R4).
        """
        kept, self._kept[partition] = self._kept[partition], deque()
        for own in kept:
            if own.size and own.run.epoch is not None:
                own.session.append_refused()
            self.give_up(own)
