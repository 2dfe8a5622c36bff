"""The queue rows of the next commit, undecoded: who acknowledges until then needs none."""

from collections.abc import Iterator

from monstermq_shared.bus.ports import Entry
from monstermq_shared.sessions.distributed.queues.cuts import ClientCuts


class NewRows:
    """Those of one partition.

    Attributes:
        size: Bytes of their messages, about.
    """

    def __init__(self) -> None:
        self.size = 0
        self._rows = 0
        # Offset -> the entry and who is to have a row of it.
        self._entries: dict[int, tuple[Entry, dict[ClientCuts, int]]] = {}
        # Of these some may have none any more.
        self._clients: set[ClientCuts] = set()

    def __len__(self) -> int:
        """Return how many there are: one for each client and message."""
        return self._rows

    def __iter__(self) -> Iterator[tuple[int, Entry, dict[ClientCuts, int]]]:
        """Yield offset, entry and client -> QoS."""
        for offset, (entry, targets) in self._entries.items():
            yield offset, entry, targets

    def add(self, entry: Entry, targets: dict[ClientCuts, int]) -> None:
        """Add rows of one message."""
        self._rows += len(targets)
        self._clients.update(targets)
        before = self._entries.get(entry.offset)
        if before is None:
            self._entries[entry.offset] = entry, targets
            self.size += entry.size
        else:
            before[1].update(targets)

    def pop(self, client: ClientCuts, offset: int) -> bool:
        """Take one out; return whether it was there."""
        found = self._entries.get(offset)
        if found is None or found[1].pop(client, None) is None:
            return False
        self._rows -= 1
        if not found[1]:
            del self._entries[offset]
            self.size -= found[0].size
        return True

    def drop_below(self, client: ClientCuts, offset: int) -> None:
        """Take out what is for a client below an offset."""
        if client in self._clients:
            for at in [each for each in self._entries if each < offset]:
                self.pop(client, at)
