"""Subscriptions come and go: the router, who watches ``$SYS``, and the replays of what is retained.

A session with many of them that ends is unrouted bit by bit, so that it holds nobody up.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from monstermq_shared.budget import Budget
from monstermq_shared.counters import Counters
from monstermq_shared.filter_shapes import FilterTooCostlyError
from monstermq_shared.routing import Router
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.ports import SUBSCRIPTION_REFUSED
from monstermq_shared.sessions.retained import RetainedMessages
from monstermq_shared.sessions.session import ClientSession
from monstermq_shared.sessions.system_watchers import SystemWatchers

S = TypeVar("S", bound=ClientSession)

SHARED_PREFIX = "$share/"
"""Shared subscriptions are refused: as plain filters they would be granted and match nothing."""

REMOVAL_WORK = 6
"""Units of work (``budget``) that the end of a subscription costs."""

CHORES_MAX = 1_000_000
"""Subscriptions of ended sessions that may be left to remove before nobody is let in."""

_SUBSCRIPTION_WORK = 10
"""Units of work (``budget``) that a filter of SUBSCRIBE costs."""

_REMOVED_AT_ONCE = 100  # subscriptions of a session that ends


class Subscriptions(Generic[S]):
    """All subscriptions of one engine.

    Attributes:
        router: Where messages go.
        retained: What is still to be replayed for new ones.
        watchers: Whether somebody subscribes to ``$SYS``.
        chores: What is left of sessions that have ended.

    Args:
        router: See above.
        retained: See above.
        chores: See above.
        counters: What is raised.
        budget: What is charged.
        per_client_max: Subscriptions per client; more are refused with 0x80.
    """

    def __init__(
        self,
        router: Router[S],
        retained: RetainedMessages[S],
        chores: Chores,
        counters: Counters,
        *,
        budget: Budget,
        per_client_max: int,
    ) -> None:
        self.router = router
        self.retained = retained
        self.watchers = SystemWatchers()
        self.chores = chores
        self._counters = counters
        self._budget = budget
        self._per_client_max = per_client_max

    def add(
        self, session: S, filters: Sequence[tuple[str, int]]
    ) -> tuple[list[int], str, dict[str, int | None]]:
        """Add or change subscriptions, and begin to replay what is retained for each.

        Returns:
            A SUBACK code for each, why the first of the refused was (empty if none was), and the
            QoS of those that hold.
        """
        codes: list[int] = []
        granted: dict[str, int | None] = {}
        refused = ""
        for topic_filter, qos in filters:
            problem = self.route(session, topic_filter, qos)
            if problem:
                refused = refused or f"{topic_filter[:80]!r}: {problem}"
                codes.append(SUBSCRIPTION_REFUSED)
                continue
            granted[topic_filter] = qos
            codes.append(qos)
            self.retained.begin(session, topic_filter, qos)
        return codes, refused, granted

    def route(self, session: S, topic_filter: str, qos: int) -> str:
        """Subscribe, or change the QoS, and replay nothing; return why not, or nothing."""
        problem = self._route(session, topic_filter, qos)
        self._budget.left -= _SUBSCRIPTION_WORK
        if problem:
            self._counters.subscriptions_refused += 1
        return problem

    def _route(self, session: S, topic_filter: str, qos: int) -> str:
        subscriptions = session.subscriptions
        known = subscriptions.get(topic_filter)
        if known is None and len(subscriptions) >= self._per_client_max:
            return f"more than {self._per_client_max} subscriptions"
        if topic_filter.startswith(SHARED_PREFIX):
            return "shared subscriptions are not supported"
        if known != qos:
            try:
                self.router.add(topic_filter, session, qos)
            except FilterTooCostlyError as exc:
                return str(exc)
            subscriptions[topic_filter] = qos
        if known is None:
            self.watchers.subscribed(session, topic_filter)
        return ""

    def remove(self, session: S, filters: Sequence[str]) -> dict[str, int | None]:
        """Remove subscriptions; return those that there were, each with None."""
        removed: dict[str, int | None] = {}
        for topic_filter in filters:
            if session.subscriptions.pop(topic_filter, None) is not None:
                self.router.remove(topic_filter, session)
                self.retained.cancel(session, topic_filter)
                self.watchers.unsubscribed(session, topic_filter)
                removed[topic_filter] = None
        self._budget.left -= REMOVAL_WORK * len(removed)
        return removed

    def end(self, session: S) -> None:
        """A session has ended: remove its subscriptions.

        Many of them go bit by bit; what they still match is not taken any more.
        """
        self.watchers.ended(session)
        count = len(session.subscriptions)
        removal = self._unroute(session)
        if count > _REMOVED_AT_ONCE:
            self.chores.add(removal, count)
        else:
            self._budget.left -= sum(removal)

    def _unroute(self, session: S) -> Iterator[int]:
        for topic_filter in session.subscriptions:
            self.router.remove(topic_filter, session)
            yield REMOVAL_WORK

    @property
    def is_overloaded(self) -> bool:
        """Whether so much of ended sessions is left that nobody is to be let in."""
        return self.chores.waiting > CHORES_MAX
