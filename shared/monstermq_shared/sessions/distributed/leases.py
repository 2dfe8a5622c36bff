"""Leases: while they are appended, others know that the connections of this edge live (E13)."""

from collections.abc import Callable

from monstermq_shared.bus.facts import Lease
from monstermq_shared.sessions.distributed.ports import FactWriter

PER_LEASE = 3
"""How many are appended in the time that one lasts."""


class _LeaseTicket:
    """Of one lease in one partition."""

    def __init__(self, leases: "Leases", partition: int, begun_s: float) -> None:
        self._leases = leases
        self._partition = partition
        self._begun_s = begun_s

    def appended(self) -> None:
        """See ``Ticket``."""
        self._leases.renewed(self._partition, self._begun_s)

    def refused(self) -> None:
        """See ``Ticket``: the next one may fare better."""
        self._leases.pending.discard(self._partition)


class Leases:
    """A lease in every partition of the sessions log.

    A lease counts from when it was made, not from when the log was known to have it: others may
    have read it since.

    Attributes:
        until_s: Partition -> monotonic seconds at which the newest lease ends.
        pending: Partitions in which one is on its way: no second one follows it, so that few wait
            while the log is away.

    Args:
        facts: The log.
        lease_s: How long one lasts.
        renewed: Told of a partition in which one was appended.
    """

    def __init__(self, facts: FactWriter, lease_s: float, renewed: Callable[[int], None]) -> None:
        self.until_s = [float("-inf")] * facts.partitions
        self.pending: set[int] = set()
        self._facts = facts
        self._lease_s = lease_s
        self._renewed = renewed
        self._next_s = float("-inf")

    def tick(self, now_s: float, wall_ms: int) -> None:
        """Append leases where it is time to."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._lease_s / PER_LEASE
        fact = Lease(run=self._facts.run, for_ms=int(self._lease_s * 1000))
        for partition in range(self._facts.partitions):
            if partition not in self.pending:
                self.pending.add(partition)
                ticket = _LeaseTicket(self, partition, now_s)
                self._facts.append_facts(partition, [fact], wall_ms, ticket)

    def renewed(self, partition: int, begun_s: float) -> None:
        """A lease was appended."""
        self.pending.discard(partition)
        self.until_s[partition] = begun_s + self._lease_s
        self._renewed(partition)

    def missed(self, now_s: float) -> list[int]:
        """Return the partitions in which no lease holds."""
        return [partition for partition, until in enumerate(self.until_s) if until <= now_s]
