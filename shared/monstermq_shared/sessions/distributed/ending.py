"""Sessions that are over: a claim ends them, unless somebody comes back before it (S4)."""

from collections.abc import Iterator
from itertools import islice

from monstermq_shared.sessions.distributed.expiring import Expiring
from monstermq_shared.sessions.distributed.session_state import SessionState

AGAIN_MS = 60_000
"""After so long an end that was not read back is asked for again."""

ASKED_MAX = 10_000
"""Ends under way; more sessions wait for these."""


class Ending:
    """Kept sessions without a connection, until their end is read back."""

    def __init__(self) -> None:
        self._now_ms = 0
        self._expiring = Expiring()
        # Client -> when it is asked for again, in that order.
        self._asked: dict[str, int] = {}

    def add(self, client_id: str, state: SessionState) -> None:
        """A kept session has no connection."""
        self._expiring.add(client_id, state.changed_ms, state.expiry_s)

    def remove(self, client_id: str, changed_ms: int, expiry_s: int) -> None:
        """It has been claimed; the two are what the session was before."""
        self._expiring.remove(client_id, changed_ms, expiry_s)
        self._asked.pop(client_id, None)

    def pass_time(self, elapsed_ms: int) -> None:
        """The log was read for so long."""
        self._now_ms += elapsed_ms

    def over(self, log_ms: int, limit: int) -> Iterator[str]:
        """Yield sessions that are over by a time of the log, each now and then until it is read."""
        for client_id, again_ms in [*islice(self._asked.items(), limit)]:
            if again_ms > self._now_ms:
                break
            yield self._ask(client_id)
            limit -= 1
        room = min(limit, ASKED_MAX - len(self._asked))
        yield from map(self._ask, islice(self._expiring.over(log_ms), max(0, room)))

    def _ask(self, client_id: str) -> str:
        self._asked.pop(client_id, None)
        self._asked[client_id] = self._now_ms + AGAIN_MS
        return client_id
