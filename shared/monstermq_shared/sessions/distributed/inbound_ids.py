"""An edge's own set of open inbound QoS 2 ids of all kept sessions, in every partition (E8)."""

from collections.abc import Iterator, Mapping

from monstermq_shared.stores.queue_changes import OpenId


class _Opened:
    """What a client has open in one partition.

    Attributes:
        ids: Packet id -> (since, epoch) of its opening.
        oldest: An epoch that none of these is older than.
    """

    __slots__ = ("ids", "oldest")

    def __init__(self, oldest: int) -> None:
        self.ids: dict[int, tuple[int, int]] = {}
        self.oldest = oldest


class InboundIds:
    """Which packet ids are open, as the log of messages says: of connected clients and others.

    A valid stamped publish opens one, a release with the same ``since`` closes it, and a marker of
    a newer incarnation closes all the client's older ones.
    """

    def __init__(self) -> None:
        # Client -> partition -> what is open there, if anything is: a marker concerns one
        # partition, and there may be all ids of a client in the others.
        self._open: dict[str, dict[int, _Opened]] = {}

    def __len__(self) -> int:
        """Return how many clients have any."""
        return len(self._open)

    def load(self, partition: int, open_ids: Mapping[tuple[str, int], OpenId]) -> None:
        """Take what rows say of a partition."""
        for (client_id, packet_id), (since, epoch) in open_ids.items():
            self.open(client_id, packet_id, partition, since, epoch)

    def begin(self, other: "InboundIds") -> None:
        """Take what another one has, which is not used any more."""
        self._open = other.taken()

    def taken(self) -> dict[str, dict[int, _Opened]]:
        """Return all there is, and have nothing any more."""
        taken, self._open = self._open, {}
        return taken

    def ids_of(self, client_id: str) -> set[int]:
        """Return the open ids of a client."""
        return {packet_id for at in self._of(client_id).values() for packet_id in at.ids}

    def count_of(self, client_id: str) -> int:
        """Return how many openings a client has, of all its ids."""
        return sum(len(at.ids) for at in self._of(client_id).values())

    def positions_of(self, client_id: str) -> Iterator[tuple[int, int]]:
        """Yield (partition, since) of each of them."""
        for partition, at in self._of(client_id).items():
            for since, _ in at.ids.values():
                yield partition, since

    def openings(self, client_id: str, packet_id: int) -> Iterator[tuple[int, int, int]]:
        """Yield (partition, since, epoch) of an id, for each partition in which it is open."""
        for partition, at in self._of(client_id).items():
            if packet_id in at.ids:
                yield partition, *at.ids[packet_id]

    def open(self, client_id: str, packet_id: int, partition: int, since: int, epoch: int) -> None:
        """A valid stamped publish was read."""
        of_client = self._open.setdefault(client_id, {})
        at = of_client.get(partition)
        if at is None:
            at = of_client[partition] = _Opened(epoch)
        at.ids[packet_id] = since, epoch
        at.oldest = min(at.oldest, epoch)

    def release(self, client_id: str, packet_id: int, partition: int, since: int) -> None:
        """A release was read: it closes what its publish has opened, and nothing newer."""
        at = self._of(client_id).get(partition)
        opened = None if at is None else at.ids.get(packet_id)
        if at is not None and opened is not None and opened[0] == since:
            del at.ids[packet_id]
            self._forget_empty(client_id, partition)

    def begun(self, client_id: str, partition: int, incarnation: int) -> int:
        """A valid marker was read: ids of older incarnations are closed in its partition.

        Returns:
            How many ids were looked at.
        """
        at = self._of(client_id).get(partition)
        # Mostly there is nothing to close.
        if at is None or at.oldest >= incarnation:
            return 0
        count = len(at.ids)
        at.ids = {id_: opened for id_, opened in at.ids.items() if opened[1] >= incarnation}
        at.oldest = incarnation
        self._forget_empty(client_id, partition)
        return count

    def _of(self, client_id: str) -> dict[int, _Opened]:
        return self._open.get(client_id, {})

    def _forget_empty(self, client_id: str, partition: int) -> None:
        of_client = self._open[client_id]
        if not of_client[partition].ids:
            del of_client[partition]
            if not of_client:
                del self._open[client_id]
