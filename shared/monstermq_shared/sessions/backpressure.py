"""Holding publishers back: what is acknowledged is never dropped, so it must not come too fast.

Three reasons to stop reading a publisher's socket: a subscriber whose window and memory are full
(ARCHITECTURE 11.14), the session store's database that is behind, and a view elsewhere that is
behind and wants what is published. TCP's flow control does the rest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from monstermq_shared.counters import Counters
from monstermq_shared.routing import Follower
from monstermq_shared.sessions.ports import Link, Source
from monstermq_shared.sessions.session import ClientSession

S = TypeVar("S", bound=ClientSession)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """When publishers are held.

    Attributes:
        pending_max: Messages that may wait for one subscriber's window.
        pending_size_max: Bytes that may wait for it.
        backlog_size_max: Bytes that may wait for the database, the running commit included, before
            publishers are held.
        patience_s: How long a subscriber may hold its publishers (``SlowConsumerHoldS``).
    """

    pending_max: int
    pending_size_max: int
    backlog_size_max: int
    patience_s: float


OVERFLOW = 8
"""A session with so many times its bound waiting is too slow at once: nobody can be held for it."""


OVERLOAD = 2
"""At so many times the bound of the backlog nobody is let in.

Publishers are held at the bound itself, so a database that is the bottleneck hovers there all the
time; what brings the backlog far beyond it are connections that come and go, with their wills.
"""


class Backpressure(Generic[S]):
    """Who is held, and because of whom.

    Attributes:
        backlog_max: See ``HoldLimits.backlog_size_max``.
        slow: Sessions that hold publishers now, with the connections that are waited for.
        overflowing: Sessions whose memory is full although nobody can be held for them.
    """

    def __init__(self, limits: HoldLimits, counters: Counters) -> None:
        self._limits = limits
        self.backlog_max = limits.backlog_size_max
        self._counters = counters
        self._backlog: dict[Source, None] = {}
        # A view elsewhere -> who is held until it has caught up.
        self._behind: dict[Follower, dict[Source, None]] = {}
        # Publisher -> the sessions it is held for.
        self._waits: dict[Source, dict[S, None]] = {}
        self._waited_for: set[Link] = set()
        self.slow: dict[S, Link] = {}
        self.overflowing: dict[S, None] = {}

    def hold_for_backlog(self, publisher: Source | None) -> None:
        """Hold a publisher, if there is one: more than ``backlog_max`` waits for the database."""
        if publisher is not None and publisher not in self._backlog:
            self._backlog[publisher] = None
            self._counters.held_publishers += 1
            publisher.hold()

    def is_overloaded(self, size: int) -> bool:
        """Whether much more waits for the database than publishers, which are held, can cause."""
        return size > OVERLOAD * self.backlog_max

    def release_backlog(self, size: int) -> None:
        """A commit has gone through: go on reading, unless the next turn is as full."""
        if self._backlog and size <= self.backlog_max // 2:
            held, self._backlog = self._backlog, {}
            for publisher in held:
                publisher.resume()

    def hold_for_followers(self, followers: Iterable[Follower], publisher: Source | None) -> None:
        """Hold a publisher, if there is one, while a view that wants its message is behind."""
        if publisher is None:
            return
        for follower in followers:
            if follower.is_full:
                held = self._behind.setdefault(follower, {})
                if publisher not in held:
                    held[publisher] = None
                    self._counters.held_publishers += 1
                    publisher.hold()

    def release_follower(self, follower: Follower) -> None:
        """A view has caught up: go on reading from whoever was held for it."""
        for publisher in self._behind.pop(follower, ()):
            publisher.resume()

    def check_pending(self, session: S, publisher: Source | None) -> None:
        """Hold a publisher if too much waits for this subscriber.

        A connection that others wait for is never held itself: its acknowledgements are what they
        wait for, so two that publish to each other would hold each other for ever.
        """
        limits = self._limits
        if (
            session.pending_count <= limits.pending_max
            and session.pending_size <= limits.pending_size_max
        ):
            return
        waiters = session.waiters
        if waiters is None:
            waiters = self._begin_waiting(session)
        if publisher in waiters:
            return
        if publisher is None or publisher in self._waited_for:
            if (
                session.pending_count > OVERFLOW * limits.pending_max
                or session.pending_size > OVERFLOW * limits.pending_size_max
            ):
                self.overflowing[session] = None
        else:
            waiters[publisher] = None
            self._waits.setdefault(publisher, {})[session] = None
            self._counters.held_publishers += 1
            publisher.hold()

    def _begin_waiting(self, session: S) -> dict[Source, None]:
        link = session.link
        assert link is not None
        self.slow[session] = link
        self._waited_for.add(link)
        session.slow_since = -1.0  # the next tick starts the clock
        session.waiters = {}
        return session.waiters

    def release_waiters(self, session: S) -> None:
        """Let the publishers go on once half of what waited has been sent."""
        limits = self._limits
        if (
            session.pending_count <= limits.pending_max // 2
            and session.pending_size <= limits.pending_size_max // 2
        ):
            self._release(session)

    def let_go(self, session: S) -> None:
        """Hold nobody for a session any more, however much waits for it."""
        if session.waiters is not None:
            self._release(session)

    def _release(self, session: S) -> None:
        waiters, session.waiters = session.waiters, None
        link = self.slow.pop(session, None)
        if link is not None:
            self._waited_for.discard(link)
        for publisher in waiters or ():
            waits = self._waits[publisher]
            del waits[session]
            if not waits:
                del self._waits[publisher]
            publisher.resume()

    def forget(self, session: S, link: Link) -> None:
        """A connection has gone: nobody waits for it, and it waits for nobody."""
        if session.waiters is not None:
            self._release(session)
        self._backlog.pop(link, None)
        for held in self._behind.values():
            held.pop(link, None)
        for other in self._waits.pop(link, ()):
            if other.waiters is not None:
                other.waiters.pop(link, None)

    def overdue(self, now: float) -> Iterator[S]:
        """Yield sessions that have held their publishers for longer than the patience lasts.

        The clock stands still while we hold the subscriber itself: we are not reading what it may
        long have acknowledged. It goes on where one is not read because its outbox is full.
        """
        for session in list(self.slow):
            link = session.link
            if session.slow_since < 0 or (link is not None and link.is_held):
                session.slow_since = now
            elif now - session.slow_since >= self._limits.patience_s:
                yield session
