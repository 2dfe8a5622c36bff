"""What a missed lease means: others may have taken our clients, so they wait until we know (E13).

A start is the same thing: nobody is served before the first leases are appended and both logs are
read to the ends seen then (E1).
"""

from collections.abc import Callable, Container, Mapping


class _Stall:
    """One partition of the sessions log without a lease, or catching up after it.

    Attributes:
        is_renewed: A lease is appended, and the ends of both logs are to be asked.
        is_asked: They are being asked.
        sessions_end: The end of the partition seen then; None while it is not known.
        message_ends: The same of the log of messages.
    """

    def __init__(self) -> None:
        self.is_renewed = False
        self.is_asked = False
        self.sessions_end: int | None = None
        self.message_ends: Mapping[int, int] = {}

    def missed(self) -> None:
        """There is no lease, or again none."""
        self.is_renewed = False
        self.is_asked = False
        self.sessions_end = None


class Stalls:
    """Which partitions' clients wait.

    Args:
        partitions: Of the sessions log.
        changed: Told when clients of a partition are to wait, or to go on.
    """

    def __init__(self, partitions: int, changed: Callable[[], None]) -> None:
        self._partitions = partitions
        self._changed = changed
        self._stalls = {partition: _Stall() for partition in range(partitions)}
        self._stopped: set[int] = set()

    def __contains__(self, partition: int) -> bool:
        """Whether the clients of a partition wait."""
        return partition in self._stalls or partition in self._stopped

    def __len__(self) -> int:
        """Return of how many partitions the clients wait for a lease."""
        return len(self._stalls)

    def stop(self, partition: int) -> None:
        """A partition is read no more (R6): nobody knows who takes its clients, so they wait."""
        if partition not in self._stopped:
            self._stopped.add(partition)
            self._stalls.pop(partition, None)
            self._changed()

    def missed(self, partition: int) -> None:
        """No lease holds in a partition."""
        if partition in self._stopped:
            return
        stall = self._stalls.get(partition)
        if stall is not None:
            stall.missed()
            return
        self._stalls[partition] = _Stall()
        self._changed()

    def renewed(self, partition: int) -> None:
        """A lease was appended in a partition."""
        stall = self._stalls.get(partition)
        if stall is not None and stall.sessions_end is None:
            stall.is_renewed = True

    def asks_ends(self) -> bool:
        """Return whether the ends of both logs are to be asked now, and brought by ``ends``.

        What is renewed after that asks anew: it needs ends that were seen after its lease.
        """
        asked = False
        for stall in self._stalls.values():
            if stall.is_renewed:
                stall.is_renewed = False
                stall.is_asked = asked = True
        return asked

    def ends(self, messages: Mapping[int, int], sessions: Mapping[int, int]) -> None:
        """Bring the ends of both logs, asked after ``asks_ends``."""
        for partition, stall in self._stalls.items():
            if stall.is_asked:
                stall.is_asked = False
                stall.sessions_end = sessions[partition]
                stall.message_ends = messages

    def is_deaf(self, sessions_at: Mapping[int, int]) -> bool:
        """Whether nothing may be delivered: nobody's takeovers are known."""
        return len(self._stalls) + len(self._stopped) == self._partitions and not any(
            stall.sessions_end is not None and sessions_at[partition] >= stall.sessions_end
            for partition, stall in self._stalls.items()
        )

    def look(
        self,
        messages_at: Mapping[int, int],
        sessions_at: Mapping[int, int],
        stopped: Container[int],
    ) -> None:
        """Let the clients go on of which both logs are read to the ends.

        Args:
            messages_at: Partition -> up to where the log of messages is read.
            sessions_at: The same of the sessions log.
            stopped: Partitions of the log of messages that are read no more: their ends never come.
        """
        for partition, stall in list(self._stalls.items()):
            end = stall.sessions_end
            if end is None or sessions_at[partition] < end:
                continue
            ends = stall.message_ends.items()
            if all(messages_at[p] >= upto or p in stopped for p, upto in ends):
                del self._stalls[partition]
                self._changed()
