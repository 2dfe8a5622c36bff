"""Cuts without subscriptions, which are deleted once nothing late can ask for them (S4, R7)."""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

REST_S = 60.0
"""So long a cut stays at least, whatever the times of records: an edge may be waiting to see it
(E5), while a worker that was away reads hours of the log in a moment."""

STALE_MAX = 1_000
"""Entries of what has changed since that may be kept, beyond as many as there are cuts."""


class EmptyCuts:
    """Those of one partition.

    Args:
        lateness_ms: L, see ``Runs``.
    """

    def __init__(self, lateness_ms: int) -> None:
        self._keep_ms = 2 * lateness_ms
        self._newest_ms = -1
        # Client -> the time of its marker, and when that was read; and the same, oldest first.
        self._marked: dict[str, tuple[int, float]] = {}
        self._order: list[tuple[int, float, str]] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._marked)

    def put(self, client_id: str, marked_ms: int, now_s: float) -> None:
        """A client has a cut without subscriptions."""
        self._marked[client_id] = marked_ms, now_s
        heappush(self._order, (marked_ms, now_s, client_id))
        if len(self._order) > 2 * len(self._marked) + STALE_MAX:
            self._order = sorted((*at, name) for name, at in self._marked.items())

    def discard(self, client_id: str) -> None:
        """A client has subscriptions, or no cut."""
        self._marked.pop(client_id, None)

    def passed(self, time_ms: int) -> None:
        """A record of this time was read."""
        if time_ms > self._newest_ms:  # noqa: PLR1730 - a call is dear here
            self._newest_ms = time_ms

    def over(self, now_s: float, has_rows: Callable[[str], bool]) -> Iterator[str]:
        """Yield those that nobody needs any more, and forget them.

        One whose client has rows here stays for as long again: of a session that is to come back,
        nothing else says to which incarnation they belong (P4).
        """
        order, oldest_ms = self._order, self._newest_ms - self._keep_ms
        while order and order[0][0] <= oldest_ms:
            marked_ms, read_s, client_id = order[0]
            is_stale = self._marked.get(client_id) != (marked_ms, read_s)
            if not is_stale and read_s + REST_S > now_s:
                return
            heappop(order)
            if is_stale:
                continue
            del self._marked[client_id]
            if has_rows(client_id):
                self.put(client_id, self._newest_ms, now_s)
            else:
                yield client_id
