"""What is left of kept sessions that have ended: their cuts in each partition of the bus (S4).

A session ends by a claim of its own log; the workers of the bus learn of it by a marker. It is
appended to every partition before the claim is committed, so nothing more than looking is left to
do afterwards, and mostly what is looked for is not there.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

AGAIN_MS = 60_000
"""Between two markers of one session, where its cut stays older than its end."""

LOOK_MS = 5_000
"""Between two looks at one session."""


class _Ended:
    """One.

    Attributes:
        epoch: Of the claim that ended it.
        marked_ms: When markers were appended last, by the time of reading.
        look_ms: When it is looked at next.
    """

    __slots__ = ("epoch", "look_ms", "marked_ms")

    def __init__(self, epoch: int, marked_ms: int, look_ms: int) -> None:
        self.epoch = epoch
        self.marked_ms = marked_ms
        self.look_ms = look_ms


class Sweeping:
    """Ended sessions that may have left something."""

    def __init__(self) -> None:
        self._now_ms = 0
        # In the order in which they are looked at.
        self._ended: dict[str, _Ended] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ended)

    def epoch_of(self, client_id: str) -> int | None:
        """Return the epoch that has ended a kept session of a client; None: nothing is left."""
        ended = self._ended.get(client_id)
        return None if ended is None else ended.epoch

    def ended(self, client_id: str, epoch: int) -> None:
        """A claim has ended a kept session, and markers are about to be appended."""
        self._put(client_id, _Ended(epoch, self._now_ms, self._now_ms + LOOK_MS))

    def go_on(self, client_id: str, epoch: int) -> None:
        """The worker before has not found out that nothing is left."""
        self._put(client_id, _Ended(epoch, self._now_ms - AGAIN_MS, self._now_ms))

    def forget(self, client_id: str) -> None:
        """A newer kept session has begun, whose own markers do the same."""
        self._ended.pop(client_id, None)

    def _put(self, client_id: str, ended: _Ended) -> None:
        self._ended.pop(client_id, None)
        self._ended[client_id] = ended

    def pass_time(self, elapsed_ms: int) -> None:
        """The log was read for so long."""
        self._now_ms += elapsed_ms

    def to_look_at(self, limit: int) -> dict[str, int]:
        """Return client -> the epoch that its cuts should show, of those whose turn it is."""
        found: dict[str, int] = {}
        for client_id, ended in islice(self._ended.items(), limit):
            if ended.look_ms > self._now_ms:
                break
            found[client_id] = ended.epoch
        return found

    def looked(
        self, asked: Mapping[str, int], found: Mapping[str, Sequence[int]]
    ) -> tuple[list[str], list[tuple[str, int, int]]]:
        """Take what was found.

        Args:
            asked: What ``to_look_at`` has returned.
            found: Client -> the partitions whose cut is older.

        Returns:
            The clients of which nothing is left; and the markers to append once more, as (client,
            epoch, partition).
        """
        clean: list[str] = []
        again: list[tuple[str, int, int]] = []
        for client_id, epoch in asked.items():
            ended = self._ended.get(client_id)
            if ended is None or ended.epoch != epoch:
                # Something has come of the client meanwhile.
                continue
            partitions = found.get(client_id, ())
            if not partitions:
                del self._ended[client_id]
                clean.append(client_id)
                continue
            ended.look_ms = self._now_ms + LOOK_MS
            self._put(client_id, ended)
            if self._now_ms - ended.marked_ms >= AGAIN_MS:
                ended.marked_ms = self._now_ms
                again += [(client_id, epoch, partition) for partition in partitions]
        return clean, again
