"""Facts in the log of messages, as every edge reads them: markers and releases (R3, R4, E8).

They say which publishes and markers count, which inbound packet ids are open, and, of those that
were appended here, what may be done now.
"""

from collections.abc import Mapping

from monstermq_shared.bus.fact_reading import BUS_KINDS, facts_of
from monstermq_shared.bus.facts import Marker, Release
from monstermq_shared.bus.ports import Entry
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.kept_subscribing import MarkerRead
from monstermq_shared.sessions.distributed.read_back import ReadBack

SWEPT_PER_FACT = 2
"""Clients whose fences are looked at for each marker that is read: so they are forgotten in time
(R7), and nobody waits for it."""


class BusFacts:
    """What they have said.

    Args:
        run: What this process' records carry.
        partitions: Of the log.
        inbound: Which inbound ids are open.
        markers: Who waits for markers that were appended here.
    """

    def __init__(
        self, run: bytes, partitions: int, inbound: InboundIds, markers: ReadBack[MarkerRead]
    ) -> None:
        self._run = run
        self._inbound = inbound
        self._markers = markers
        self._fences = FenceTable(partitions, 0)
        self._begins: Mapping[int, int] = {}

    def begin(self, begins: Mapping[int, int], fences: FenceTable) -> None:
        """Reading begins.

        Args:
            begins: Partition -> from there on packet ids open and close; rows know what is below.
            fences: What is fenced below the first record that is read.
        """
        self._begins = begins
        self._fences = fences

    def admits(self, partition: int, client_id: str, epoch: int) -> bool:
        """Whether a stamped publish that is read now counts (R3)."""
        return self._fences.admits(partition, client_id, epoch)

    def opens(self, partition: int, offset: int) -> bool:
        """Whether the rows do not know yet what is opened there."""
        return offset >= self._begins.get(partition, 0)

    def stop(self, partition: int) -> None:
        """A partition is read no more (R6)."""
        self._markers.stop(partition)

    def read(self, partition: int, entry: Entry) -> int:
        """Take a control record.

        Returns:
            How many open ids were looked at for it.

        Raises:
            UnknownFact: It cannot be taken: reading stops there (R6).
        """
        is_own = entry.writer == self._run
        looked_at = 0
        for index, fact in enumerate(facts_of(entry, BUS_KINDS)):
            if isinstance(fact, Marker):
                counts = self._mark(partition, entry, fact)
                if counts and self.opens(partition, entry.offset):
                    looked_at += self._inbound.begun(fact.client_id, partition, fact.incarnation)
                if is_own:
                    self._read_back(partition, entry, index, counts)
            elif isinstance(fact, Release) and self.opens(partition, entry.offset):
                self._inbound.release(fact.client_id, fact.packet_id, partition, fact.since)
        return looked_at

    def _mark(self, partition: int, entry: Entry, fact: Marker) -> bool:
        if not self._fences.mark(partition, fact.client_id, fact.epoch, entry.time_ms):  # R3
            return False
        self._fences.sweep(SWEPT_PER_FACT)
        return True

    def _read_back(self, partition: int, entry: Entry, index: int, counts: bool) -> None:
        """R4: what was appended here may be acted on."""
        waiter, _ = self._markers.read(partition, (entry.sequence, index))
        if waiter is not None:
            waiter(entry.offset, counts)
