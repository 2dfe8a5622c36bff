"""SUBSCRIBEs that wait until what was published here before is read back.

Else it would be delivered as if it had been published after. What others published is as old as it
is read.
"""

from collections import deque

from monstermq_shared.sessions.distributed.own_runs import OwnRuns
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.ports import Link

SUBSCRIBE_HOLD_S = 1.0
"""How long a SUBSCRIBE waits, at most, for what was published before it."""


class SubscribeWaits:
    """Who waits with a SUBSCRIBE, in order.

    Args:
        own: What was published here and is not read back.
    """

    def __init__(self, own: OwnRuns) -> None:
        self._own = own
        # For which run, since when, whose; and those that have waited.
        self._waiting: deque[tuple[int, float, BusSession, Link]] = deque()
        self._forgiven: dict[BusSession, None] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def holds(self, session: BusSession, now_s: float) -> bool:
        """See ``SessionPort.holds_subscribe``."""
        link = session.link
        if link is None or session in self._forgiven or not self._own.size:
            self._forgiven.pop(session, None)
            return False
        link.hold()
        self._waiting.append((self._own.newest, now_s, session, link))
        return True

    def let_go_on(self, *, since_s: float = -1.0) -> None:
        """Let those go on for which all is read back, and who have waited since before then."""
        waiting = self._waiting
        oldest = self._own.oldest()
        while waiting and (waiting[0][0] < oldest or waiting[0][1] < since_s):
            _, _, session, link = waiting.popleft()
            if session.link is link:
                self._forgiven[session] = None
                link.resume()

    def forget(self, session: BusSession) -> None:
        """The session's connection has gone."""
        self._forgiven.pop(session, None)
