"""When sessions that nobody comes back to are over (S4)."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from monstermq_shared.bus.facts import EXPIRY_S_MAX

WIDTH_MS = 4_096
"""Sessions that end within so long of each other end together, so that a million are cheap."""

STALE_MAX = 1_000
"""Numbers of times without sessions that may be kept, beyond as many as have some."""


class Expiring:
    """Kept sessions without a connection, by when they are over."""

    def __init__(self) -> None:
        self._at: dict[int, set[str]] = {}
        self._order: list[int] = []

    def add(self, client_id: str, detached_ms: int, expiry_s: int) -> None:
        """A session has been without a connection since."""
        at = _over(detached_ms, expiry_s)
        if at is None:
            return
        clients = self._at.get(at)
        if clients is None:
            clients = self._at[at] = set()
            heappush(self._order, at)
        clients.add(client_id)

    def remove(self, client_id: str, detached_ms: int, expiry_s: int) -> None:
        """It is waited for no more; the arguments are those that it was added with."""
        at = _over(detached_ms, expiry_s)
        clients = None if at is None else self._at.get(at)
        if at is None or clients is None:
            return
        clients.discard(client_id)
        if not clients:
            del self._at[at]
            if len(self._order) > 2 * len(self._at) + STALE_MAX:
                self._order = [*self._at]
                heapify(self._order)

    def over(self, now_ms: int) -> Iterator[str]:
        """Yield the sessions that are over, and wait for them no more."""
        while self._order and self._order[0] * WIDTH_MS <= now_ms:
            clients = self._at.get(self._order[0], set())
            while clients:
                yield clients.pop()
            self._at.pop(heappop(self._order), None)


def _over(detached_ms: int, expiry_s: int) -> int | None:
    """Return when a session is over, never too early, in ``WIDTH_MS``; None: never."""
    if expiry_s == EXPIRY_S_MAX:
        return None
    return -(-(detached_ms + expiry_s * 1000) // WIDTH_MS)
