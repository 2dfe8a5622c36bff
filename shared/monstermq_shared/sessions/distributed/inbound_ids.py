"""An edge's own set of open inbound QoS 2 ids of all kept sessions, in every partition (E8)."""

from collections.abc import Iterator, Mapping

from monstermq_shared.stores.queue_changes import OpenId


class InboundIds:
    """Which packet ids are open, as the log of messages says: of connected clients and others.

    A valid stamped publish opens one, a release with the same ``since`` closes it, and a marker of
    a newer incarnation closes all the client's older ones.
    """

    def __init__(self) -> None:
        # Client -> packet id -> (partition, since, epoch) of each opening, one after the other:
        # mostly there is one, for an id is rarely open in two partitions.
        self._open: dict[str, dict[int, tuple[int, ...]]] = {}
        # Client -> an epoch that none of its openings is older than.
        self._oldest: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many clients have any."""
        return len(self._open)

    def load(self, partition: int, open_ids: Mapping[tuple[str, int], OpenId]) -> None:
        """Take what rows say of a partition."""
        for (client_id, packet_id), (since, epoch) in open_ids.items():
            self.open(client_id, packet_id, partition, since, epoch)

    def begin(self, other: "InboundIds") -> None:
        """Take what another one has, which is not used any more."""
        self._open, self._oldest = other.taken()

    def taken(self) -> tuple[dict[str, dict[int, tuple[int, ...]]], dict[str, int]]:
        """Return all there is, and have nothing any more."""
        taken = self._open, self._oldest
        self._open, self._oldest = {}, {}
        return taken

    def ids_of(self, client_id: str) -> Mapping[int, tuple[int, ...]]:
        """Return the open ids of a client."""
        return self._open.get(client_id, {})

    def openings(self, client_id: str, packet_id: int) -> Iterator[tuple[int, int, int]]:
        """Yield (partition, since, epoch) of an id, for each partition in which it is open."""
        flat = self._open.get(client_id, {}).get(packet_id, ())
        for at in range(0, len(flat), 3):
            yield flat[at], flat[at + 1], flat[at + 2]

    def open(self, client_id: str, packet_id: int, partition: int, since: int, epoch: int) -> None:
        """A valid stamped publish was read."""
        others = self._others(client_id, packet_id, partition)
        self._open.setdefault(client_id, {})[packet_id] = (*others, partition, since, epoch)
        if epoch < self._oldest.setdefault(client_id, epoch):
            self._oldest[client_id] = epoch

    def release(self, client_id: str, packet_id: int, partition: int, since: int) -> None:
        """A release was read: it closes what its publish has opened, and nothing newer."""
        for at, opened, _ in self.openings(client_id, packet_id):
            if at == partition and opened == since:
                self._put(client_id, packet_id, self._others(client_id, packet_id, partition))

    def begun(self, client_id: str, partition: int, incarnation: int) -> None:
        """A valid marker was read: ids of older incarnations are closed in its partition."""
        # Mostly there is nothing to close, and there may be all ids of a client.
        if self._oldest.get(client_id, incarnation) >= incarnation:
            return
        for packet_id in [*self.ids_of(client_id)]:
            for at, _, epoch in self.openings(client_id, packet_id):
                if at == partition and epoch < incarnation:
                    self._put(client_id, packet_id, self._others(client_id, packet_id, partition))
        if left := self.ids_of(client_id).values():
            self._oldest[client_id] = min(epoch for flat in left for epoch in flat[2::3])

    def _others(self, client_id: str, packet_id: int, partition: int) -> tuple[int, ...]:
        flat: tuple[int, ...] = ()
        for opening in self.openings(client_id, packet_id):
            if opening[0] != partition:
                flat += opening
        return flat

    def _put(self, client_id: str, packet_id: int, flat: tuple[int, ...]) -> None:
        ids = self._open[client_id]
        if flat:
            ids[packet_id] = flat
            return
        del ids[packet_id]
        if not ids:
            del self._open[client_id]
            del self._oldest[client_id]
