"""What was matched in one partition, and is neither acknowledged nor a row yet."""

from collections import OrderedDict
from collections.abc import Iterator

from monstermq_shared.bus.ports import Entry
from monstermq_shared.sessions.distributed.queues.cuts import ClientCuts

HELD_OVERHEAD = 200
"""Bytes that an entry takes in the window beside what stands in the log, about."""

TARGET_SIZE = 150
"""Bytes that each of those takes that it is for."""


class Held:
    """An entry, undecoded, and who has not acknowledged it.

    Attributes:
        entry: It.
        targets: Client -> QoS of the delivery.
        read_s: When it was read.
        size: Bytes that it takes, about, without the targets.
    """

    __slots__ = ("entry", "read_s", "size", "targets")

    def __init__(self, entry: Entry, targets: dict[ClientCuts, int], read_s: float) -> None:
        self.entry = entry
        self.targets = targets
        self.read_s = read_s
        self.size = entry.size + HELD_OVERHEAD


class Window:
    """All entries that are held, in the order of the log.

    Attributes:
        size: Their bytes, about.
    """

    def __init__(self) -> None:
        self.size = 0
        # A plain dictionary is slow to find its first key once those before are gone.
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._of: dict[ClientCuts, set[int]] = {}

    def __len__(self) -> int:
        """Return how many entries are held."""
        return len(self._held)

    def oldest(self) -> Held | None:
        """Return the first of them, None if there is none."""
        return next(iter(self._held.values()), None)

    def add(self, held: Held) -> None:
        """Hold an entry above all others."""
        offset = held.entry.offset
        self._held[offset] = held
        self.size += held.size + TARGET_SIZE * len(held.targets)
        of = self._of
        for client in held.targets:
            offsets = of.get(client)
            if offsets is None:
                of[client] = {offset}
            else:
                offsets.add(offset)

    def pop(self, client: ClientCuts, offset: int) -> tuple[Entry, int] | None:
        """Take one delivery out; return its entry and QoS, None if it is not there."""
        held = self._held.get(offset)
        qos = None if held is None else held.targets.pop(client, None)
        if held is None or qos is None:
            return None
        self._forget(client, offset)
        self.size -= TARGET_SIZE
        if not held.targets:
            self._drop(offset, held)
        return held.entry, qos

    def pop_oldest(self, targets_max: int) -> tuple[Entry, dict[ClientCuts, int]]:
        """Take the first entry out, for at most so many of those it is for: the rest stays."""
        offset, held = next(iter(self._held.items()))
        targets = held.targets
        if len(targets) > targets_max:
            taken = {client: targets.pop(client) for client in [*targets][:targets_max]}
        else:
            taken = targets
            self._drop(offset, held)
        for client in taken:
            self._forget(client, offset)
        self.size -= TARGET_SIZE * len(taken)
        return held.entry, taken

    def _drop(self, offset: int, held: Held) -> None:
        del self._held[offset]
        self.size -= held.size

    def _forget(self, client: ClientCuts, offset: int) -> None:
        offsets = self._of[client]
        offsets.discard(offset)
        if not offsets:
            del self._of[client]

    def pop_all(self, client: ClientCuts) -> Iterator[tuple[Entry, int]]:
        """Take out all that is for a client, in the order of the log."""
        for offset in sorted(self._of.get(client, ())):
            found = self.pop(client, offset)
            assert found is not None
            yield found

    def drop_below(self, client: ClientCuts, offset: int) -> None:
        """Forget what is for a client below an offset."""
        for at in [each for each in self._of.get(client, ()) if each < offset]:
            self.pop(client, at)
