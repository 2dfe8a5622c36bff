"""When a session that nobody comes back to ends: after time that passed, whatever the clock shows.

A machine without a clock of its own learns the date minutes after its start. So the time since a
session left is counted by the monotonic clock; only how long it had been away before this process
started has to be taken from its row, once, at the start.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import islice

from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import Session

EXPIRE_MAX = 100
"""Sessions that end at once; other work goes between."""

SUBSCRIPTIONS_MAX = 1_000
"""Subscriptions that end with them; the session that reaches it is the last one."""

REDATE_MAX = 100
"""Rows dated anew in one tick after the clock was set."""

TICK_S = 1.0
"""How far apart the ticks are."""


class SessionExpiry:
    """Sessions without a connection, in the order in which they left: only the first can be due.

    Args:
        expiry_s: ``Queue.SessionExpiry`` in seconds; None: sessions stay for ever.

    Attributes:
        now: Monotonic seconds, as the last tick brought them.
    """

    def __init__(self, expiry_s: float | None) -> None:
        self.now = 0.0
        self._expiry_s = expiry_s
        # Ordered, because its first entry is found at once, however many went before it.
        self._away: OrderedDict[PersistentSession, float] = OrderedDict()
        self._undated: deque[PersistentSession] = deque()

    def __len__(self) -> int:
        """Return how many sessions are waited for."""
        return len(self._away)

    def restore(self, away_s: Iterable[tuple[PersistentSession, float]]) -> None:
        """Take over the sessions of an earlier process, with the seconds they have been away.

        What the clock cannot know counts as no time: that of a session that was connected at the
        crash, or that has left at a time which is still to come.
        """
        if self._expiry_s is not None:
            for session, seconds in sorted(away_s, key=lambda item: -item[1]):
                self._away[session] = self.now - max(seconds, 0.0)

    def left(self, session: PersistentSession) -> None:
        """A session has lost its connection, in the second after the last tick."""
        if self._expiry_s is not None:
            self._away[session] = self.now + TICK_S

    def forget(self, session: Session) -> None:
        """It has come back, or has ended."""
        if isinstance(session, PersistentSession):
            self._away.pop(session, None)

    def is_over(self, session: PersistentSession) -> bool:
        """Whether a session may not be resumed any more."""
        left = self._away.get(session)
        return left is not None and self._expiry_s is not None and left + self._expiry_s <= self.now

    def due(self) -> list[PersistentSession]:
        """Return the sessions to end now; call it again as long as there are any."""
        due: list[PersistentSession] = []
        subscriptions = 0
        for session in islice(self._away, EXPIRE_MAX):
            if not self.is_over(session) or subscriptions >= SUBSCRIPTIONS_MAX:
                break
            subscriptions += len(session.subscriptions)
            due.append(session)
        return due

    # -- the clock was set -----------------------------------------------------------------------

    def clock_was_set(self) -> None:
        """The times at which sessions left are wrong in their rows now: write them anew."""
        self._undated = deque(self._away)

    def redated(self) -> Iterator[tuple[PersistentSession, float]]:
        """Yield some sessions whose row is to be written anew, with the seconds they are away."""
        for _ in range(min(len(self._undated), REDATE_MAX)):
            session = self._undated.popleft()
            left = self._away.get(session)
            if left is not None:
                yield session, max(self.now - left, 0.0)
