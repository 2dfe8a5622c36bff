"""R3 over all partitions at once: the epoch of each client's newest valid marker in each of them.

Every edge has them of all kept clients, connected or not, so they are arrays: a client takes some
hundred bytes, however many partitions there are.
"""

from array import array
from collections.abc import Mapping

_NO_TIME = 0


class FenceTable:
    """The fences of every partition; see ``bus.fences.Fences``, which is those of one.

    Args:
        partitions: Of the log of messages.
        lateness_ms: L, see ``Runs``: what is 2 L of record time old is forgotten (R7).
    """

    def __init__(self, partitions: int, lateness_ms: int) -> None:
        self.partitions = partitions
        self._keep_s = 2 * lateness_ms // 1000 + 1
        self._newest_s = [_NO_TIME] * partitions
        self._slots: dict[str, int] = {}
        self._clients: list[str | None] = []
        self._free: list[int] = []
        # By slot and partition: epoch + 1, and the second of its marker; 0 is none.
        self._epochs = array("Q")
        self._times = array("I")
        self._swept = 0

    def __len__(self) -> int:
        """Return how many clients have any."""
        return len(self._slots)

    def admits(self, partition: int, client_id: str, epoch: int) -> bool:
        """Whether a marker or a stamped publish of this epoch counts."""
        slot = self._slots.get(client_id)
        return slot is None or epoch + 1 >= self._epochs[slot * self.partitions + partition]

    def mark(self, partition: int, client_id: str, epoch: int, time_ms: int) -> bool:
        """Note a marker. Returns whether it counts; one that does not changes nothing."""
        slot = self._slots.get(client_id)
        if slot is None:
            slot = self._new_slot(client_id)
        at = slot * self.partitions + partition
        if epoch + 1 < self._epochs[at]:
            return False
        time_s = max(time_ms // 1000, _NO_TIME + 1)
        self._epochs[at] = epoch + 1
        self._times[at] = max(self._times[at], time_s)
        self._newest_s[partition] = max(self._newest_s[partition], time_s)
        return True

    def load(self, partition: int, marks: Mapping[str, tuple[int, int]]) -> None:
        """Take what rows say: client -> (epoch, time of its marker in ms)."""
        for client_id, (epoch, time_ms) in marks.items():
            self.mark(partition, client_id, epoch, time_ms)

    def _new_slot(self, client_id: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._clients[slot] = client_id
        else:
            slot = len(self._clients)
            self._clients.append(client_id)
            self._epochs.extend((0,) * self.partitions)
            self._times.extend((0,) * self.partitions)
        self._slots[client_id] = slot
        return slot

    def sweep(self, slots: int) -> None:
        """Forget what is too old, of the next so many clients (R7)."""
        for _ in range(min(slots, len(self._clients))):
            self._swept = (self._swept + 1) % len(self._clients)
            client_id = self._clients[self._swept]
            if client_id is not None and not self._forget_old(self._swept):
                del self._slots[client_id]
                self._clients[self._swept] = None
                self._free.append(self._swept)

    def _forget_old(self, slot: int) -> bool:
        """Forget the old ones of a client; return whether any is left."""
        first = slot * self.partitions
        left = False
        for partition, newest_s in enumerate(self._newest_s):
            at = first + partition
            if self._times[at] + self._keep_s > newest_s:
                left |= self._epochs[at] != 0
            else:
                self._epochs[at] = self._times[at] = 0
        return left
