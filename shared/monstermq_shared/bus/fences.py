"""R3: what a dead connection appended late does not count, once a newer one has marked its cut."""

from collections.abc import Iterable
from typing import Self


class Fences:
    """The epoch of each client's newest valid marker in one partition.

    How many there are is bounded by time: nothing that has to be fenced lands later than 2 L of
    record time after the marker that fences it (R7), so then the fence is forgotten.

    Args:
        lateness_ms: L, see ``Runs``.
    """

    __slots__ = ("_fences", "_forget_ms", "_keep_ms", "_newest_ms")

    def __init__(self, lateness_ms: int) -> None:
        self._keep_ms = 2 * lateness_ms
        self._newest_ms = -1
        self._forget_ms = 0
        # client -> (epoch, time of its marker)
        self._fences: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return how many clients have one."""
        return len(self._fences)

    def admits(self, client_id: str, epoch: int) -> bool:
        """Whether a marker or a stamped publish of this epoch counts."""
        fence = self._fences.get(client_id)
        return fence is None or epoch >= fence[0]

    def mark(self, client_id: str, epoch: int, time_ms: int) -> bool:
        """Note a marker. Returns whether it counts; one that does not changes nothing."""
        if not self.admits(client_id, epoch):
            return False
        if time_ms > self._newest_ms:
            self._newest_ms = time_ms
            if time_ms >= self._forget_ms:
                self._forget()
        before = self._fences.get(client_id, (epoch, time_ms))
        self._fences[client_id] = epoch, max(before[1], time_ms)
        return True

    def _forget(self) -> None:
        below_ms = self._newest_ms - self._keep_ms
        self._forget_ms = self._newest_ms + self._keep_ms // 2 + 1
        for client_id in [name for name, at in self._fences.items() if at[1] <= below_ms]:
            del self._fences[client_id]

    def dump(self) -> list[tuple[str, int, int]]:
        """Return (client, epoch, ms) of every fence."""
        return [(client_id, *at) for client_id, at in self._fences.items()]

    @classmethod
    def load(cls, marks: Iterable[tuple[str, int, int]], lateness_ms: int) -> Self:
        """Return the state after these marks, in any order, such as those of many commits."""
        fences = cls(lateness_ms)
        for client_id, epoch, time_ms in marks:
            fences.mark(client_id, epoch, time_ms)
        return fences
