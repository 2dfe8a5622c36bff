"""What was published here, kept until it is read back: delivered without decoding JSON (R4)."""

from collections import deque
from collections.abc import Sequence

from monstermq_shared.bus.ports import Entry
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.session import CleanSession

RUN_OVERHEAD = 500
"""Bytes that a run takes beside its messages, about."""


class OwnRun:
    """A run that was appended and has not been read back.

    Attributes:
        first: The sequence of its first message.
        stop: The sequence behind its last one.
        run: The messages.
        session: Who published it.
        size: Bytes it counts for.
    """

    __slots__ = ("first", "run", "session", "size", "stop")

    def __init__(self, first: int, run: MessageRun, session: CleanSession) -> None:
        self.first = first
        self.stop = first + run.count
        self.run = run
        self.session = session
        self.size = run.size + RUN_OVERHEAD


class OwnRuns:
    """All of them, per partition in order of sequence.

    Publishers are held by their size (``HoldLimits.backlog_size_max``), which bounds them.

    Attributes:
        size: Bytes of all of them.
        sizes: The same by partition.

    Args:
        run: What this process' records carry.
        partitions: How many.
    """

    def __init__(self, run: bytes, partitions: int) -> None:
        self.size = 0
        self.sizes = [0] * partitions
        self._run = run
        self._kept: list[deque[OwnRun]] = [deque() for _ in range(partitions)]

    def keep(self, partition: int, first: int, run: MessageRun, session: CleanSession) -> None:
        """Keep a run until it is read back."""
        own = OwnRun(first, run, session)
        self._kept[partition].append(own)
        self.size += own.size
        self.sizes[partition] += own.size

    def match(
        self, partition: int, entries: Sequence[Entry], index: int
    ) -> tuple[MessageRun, CleanSession, int] | None:
        """Find the run that an entry of this process begins or goes on with.

        Returns:
            The messages that are read back here, as a run, who published them, and how many
            entries that are; None if it is not kept.
        """
        kept = self._kept[partition]
        sequence = entries[index].sequence
        # What is passed over was refused, and its sequences are never used again (R1).
        while kept and kept[0].stop <= sequence:
            self._forget(partition)
        if not kept or kept[0].first > sequence:
            return None
        own = kept[0]
        count = self._contiguous(entries, index, own.stop - sequence)
        begin = sequence - own.first
        run = own.run if count == own.run.count else own.run.part(begin, begin + count)
        if sequence + count == own.stop:
            self._forget(partition)
        return run, own.session, count

    def _contiguous(self, entries: Sequence[Entry], index: int, count_max: int) -> int:
        """Return how many entries from one on are ours and follow each other without a gap."""
        run = self._run
        sequence = entries[index].sequence
        stop = min(index + count_max, len(entries))
        at = index + 1
        while at < stop:
            entry = entries[at]
            if entry.sequence != sequence + at - index or entry.writer != run:
                break
            at += 1
        return at - index

    def _forget(self, partition: int) -> None:
        own = self._kept[partition].popleft()
        self.size -= own.size
        self.sizes[partition] -= own.size

    def clear(self, partition: int) -> None:
        """Forget all of a partition that is read no more."""
        while self._kept[partition]:
            self._forget(partition)
