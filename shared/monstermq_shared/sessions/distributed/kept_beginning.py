"""The connections of kept sessions between CONNECT and CONNACK (E2, E3).

The claim is read back; the session is looked up as of it; a marker goes to every partition with all
its subscriptions; and once all of them are read, the client is told.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from monstermq_shared.bus.facts import Marker
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.filter_shapes import FilterTooCostlyError
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_states import KeptStates
from monstermq_shared.sessions.distributed.kept_subscribing import (
    MarkerRead,
    has_room,
)
from monstermq_shared.sessions.distributed.ports import MessageWriter
from monstermq_shared.sessions.distributed.read_back import ReadBack
from monstermq_shared.sessions.distributed.session import BusSession, Refusable
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.subscriptions import Subscriptions

ROUTED_AT_ONCE = 100
"""Subscriptions that are routed in one go; more are bit by bit."""

MARKED_AT_ONCE = 1_000
"""Subscriptions whose markers are appended in one go, to every partition."""

_MARKER_COST = 20
"""What a marker costs beside its subscriptions, in subscriptions."""

_ROUTE_WORK = 10
"""Units of work (``budget``) that a subscription costs."""


class KeptBeginning:
    """All of them.

    Args:
        states: Knows sessions as of their claims.
        messages: Where markers go.
        markers: Who waits for them.
        subscriptions: All of them.
        chores: Does what is done bit by bit.
        close: Ends a connection.
        served: Called once CONNACK may be sent.

    Attributes:
        wall_ms: Milliseconds UTC, as the last turn brought them.
    """

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        *,
        states: KeptStates,
        messages: MessageWriter,
        markers: ReadBack[MarkerRead],
        subscriptions: Subscriptions[BusSession],
        chores: Chores,
        close: Callable[[BusSession, CloseReason], None],
        served: Callable[[KeptSession], None],
    ) -> None:
        self.wall_ms = 0
        self._states = states
        self._messages = messages
        self._markers = markers
        self._subscriptions = subscriptions
        self._chores = chores
        self._close = close
        self._served = served
        # Those whose markers wait for room.
        self._waiting: deque[KeptSession] = deque()

    def claimed(self, session: KeptSession) -> None:
        """A claim was read back, and its connection is there."""
        assert session.epoch is not None
        self._states.ask(
            session.partition, session.client_id, session.epoch, partial(self._known, session)
        )

    def _known(self, session: KeptSession, state: SessionState | None) -> None:
        """The session as of the claim is known (E2)."""
        if session.link is None:
            return
        if state is None:
            self._close(session, CloseReason.SERVER_UNAVAILABLE)
            return
        session.begin(state)
        routing = self._route(session)
        count = len(session.subscriptions)
        if count > ROUTED_AT_ONCE:
            self._chores.add(routing, count)
        else:
            for _ in routing:
                pass

    def _route(self, session: KeptSession) -> Iterator[int]:
        """Route what the session has: nothing is delivered before its markers are read (E3)."""
        router, watchers = self._subscriptions.router, self._subscriptions.watchers
        for topic_filter, qos in [*session.subscriptions.items()]:
            if session.link is None:
                return
            try:
                router.add(topic_filter, session, qos)
            except FilterTooCostlyError:
                self._close(session, CloseReason.QUOTA_EXCEEDED)
                return
            watchers.subscribed(session, topic_filter)
            yield _ROUTE_WORK
        if session.link is not None:
            self._waiting.append(session)

    def go_on(self) -> bool:
        """E14: append markers once all partitions take them; return whether more could go."""
        left = MARKED_AT_ONCE
        while self._waiting and left > 0 and has_room(self._messages):
            session = self._waiting.popleft()
            if session.link is not None:
                self._mark(session)
                left -= _MARKER_COST + len(session.subscriptions)
        return bool(self._waiting) and has_room(self._messages)

    def _mark(self, session: KeptSession) -> None:
        """E3: from its marker on, each partition has the whole list."""
        assert session.epoch is not None
        marker = Marker(
            client_id=session.client_id,
            epoch=session.epoch,
            incarnation=session.incarnation,
            whole=tuple((name, qos, 0) for name, qos in session.subscriptions.items()),
        )
        ticket = Refusable(session)
        for partition in range(self._messages.partitions):
            place = self._messages.append_facts(partition, [marker], self.wall_ms, ticket)
            self._markers.expect(partition, place, partial(self._marked, session, partition))

    def _marked(self, session: KeptSession, partition: int, offset: int, counts: bool) -> None:
        if session.link is None or not counts:
            return
        session.marked(partition, offset)
        if session.is_marked:
            self._served(session)
