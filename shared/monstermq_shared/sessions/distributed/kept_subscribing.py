"""SUBSCRIBE and UNSUBSCRIBE of kept sessions (E10).

One fact in the sessions log says what the session has from now on; one marker in every partition of
the log of messages says from where on it holds there. The client is told once all of them are read
back.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import takewhile

from monstermq_shared.bus.facts import Marker, Subs
from monstermq_shared.counters import Counters
from monstermq_shared.routing import Router
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.ports import FactWriter, MessageWriter
from monstermq_shared.sessions.distributed.read_back import ReadBack
from monstermq_shared.sessions.distributed.session import BusSession, Refusable
from monstermq_shared.sessions.distributed.varying import Change, comparisons, matching
from monstermq_shared.sessions.ports import SUBSCRIPTION_REFUSED, Link
from monstermq_shared.sessions.retained import RetainedMessages
from monstermq_shared.sessions.subscriptions import Subscriptions

FactRead = Callable[[bool], None]
"""Called when a fact of ours is read, with whether it counts."""

MarkerRead = Callable[[int, bool], None]
"""The same of a marker, with its offset."""

CHANGES_MAX = 16
"""Changes of one session on their way before no more is read from its client."""


def has_room(messages: MessageWriter) -> bool:
    """Whether every partition takes what is appended: markers go to all of them (E14)."""
    return not any(map(messages.is_full, range(messages.partitions)))


class Varied:
    """Sessions whose subscriptions do not hold in all partitions; see ``routing.Varied``.

    Attributes:
        subscribers: They.
        compared: See ``routing.Varied``.
    """

    def __init__(self, messages: MessageWriter) -> None:
        self.compared = 0
        self.subscribers: set[BusSession] = set()
        self._messages = messages

    def granted(self, subscriber: BusSession, topic: str, anywhere: int) -> int | None:
        """Return what a topic is granted in the partition it stands in."""
        assert isinstance(subscriber, KeptSession)
        varying = subscriber.varying
        changing = varying.on_their_way(), subscriber.adding
        self.compared += comparisons(topic, *changing)
        if not matching(topic, *changing):
            # What matches holds everywhere, with the QoS that it is routed with.
            return anywhere
        self.compared += varying.work(topic)
        return varying.granted(topic, self._messages.partition_of(topic))


class KeptSubscribing:
    """Changes of subscriptions on their way.

    Args:
        messages: Where markers go.
        facts: Where subscriptions are kept.
        markers: Who waits for markers.
        read_facts: Who waits for facts of the sessions log.
        subscriptions: All of them, in the router.
        varied: Told of who varies.
        retained: Replays what is retained.
        counters: What is counted.

    Attributes:
        wall_ms: Milliseconds UTC, as the last turn brought them.
        now_s: Monotonic seconds, likewise.
    """

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        *,
        messages: MessageWriter,
        facts: FactWriter,
        markers: ReadBack[MarkerRead],
        read_facts: ReadBack[FactRead],
        subscriptions: Subscriptions[BusSession],
        varied: Varied,
        retained: RetainedMessages[BusSession],
        counters: Counters,
    ) -> None:
        self.wall_ms = 0
        self.now_s = 0.0
        self._messages = messages
        self._facts = facts
        self._markers = markers
        self._read_facts = read_facts
        self._subscriptions = subscriptions
        self._varied = varied
        self._retained = retained
        self._counters = counters
        # Whose SUBSCRIBE waits for room, by partition of the sessions log; and those who wait at
        # all, since when, oldest first.
        self._held: list[dict[KeptSession, Link]] = [{} for _ in range(facts.partitions)]
        self._since: dict[KeptSession, float] = {}

    @property
    def _router(self) -> Router[BusSession]:
        return self._subscriptions.router

    # -- room and time (E14) ---------------------------------------------------------------------

    def holds(self, session: KeptSession) -> bool:
        """Whether a SUBSCRIBE has to wait for room: its client is held until there is some."""
        link = session.link
        if link is None or (
            has_room(self._messages) and not self._facts.is_full(session.partition)
        ):
            return False
        held = self._held[session.partition]
        if session not in held:
            link.hold()
            held[session] = link
            self._since.setdefault(session, self.now_s)
        return True

    def go_on(self) -> None:
        """Let those go on that waited for room, if there is some in both logs."""
        if not (any(self._held) and has_room(self._messages)):
            return
        for partition, held in enumerate(self._held):
            if held and not self._facts.is_full(partition):
                self._held[partition] = {}
                for link in held.values():
                    link.resume()

    def overdue(self, before_s: float) -> list[KeptSession]:
        """Return those who wait since before a time: what they asked for is not done in time."""
        waiting = self._since.items()
        return [session for session, _ in takewhile(lambda each: each[1] <= before_s, waiting)]

    # -- SUBSCRIBE -------------------------------------------------------------------------------

    def subscribe(
        self, session: KeptSession, filters: Sequence[tuple[str, int]]
    ) -> tuple[list[int], str]:
        """Take the filters of a SUBSCRIBE, or the next part of a long one.

        Returns:
            A code for each, and why the first of the refused was; empty if none was.
        """
        self._vary(session)
        codes: list[int] = []
        refused = ""
        for topic_filter, qos in filters:
            problem = self._route(session, topic_filter, qos)
            if problem:
                refused = refused or f"{topic_filter[:80]!r}: {problem}"
                codes.append(SUBSCRIPTION_REFUSED)
                continue
            session.adding[topic_filter] = qos
            codes.append(qos)
        return codes, refused

    def _route(self, session: KeptSession, topic_filter: str, qos: int) -> str:
        """Route a filter; return why not, or nothing."""
        if topic_filter in session.subscriptions:
            return self._subscriptions.route(session, topic_filter, qos)
        problem = session.bounds.add(topic_filter, session.subscriptions)
        if problem:
            self._counters.subscriptions_refused += 1
            return problem
        problem = self._subscriptions.route(session, topic_filter, qos)
        if problem:
            session.bounds.remove(topic_filter)
        return problem

    def _vary(self, session: KeptSession) -> None:
        """What is routed from now on does not hold before its markers are read."""
        if session not in self._varied.subscribers:
            self._varied.subscribers.add(session)
            session.varying.vary(session.subscriptions)

    def subscribed(self, session: KeptSession, packet_id: int, codes: Sequence[int]) -> None:
        """All filters of a SUBSCRIBE are taken: SUBACK follows, and then what is retained."""
        add, session.adding = session.adding, {}
        tell = partial(self._tell_subscribed, session, packet_id, codes, add)
        self._begin(session, Change(add, (), self._messages.partitions), tell)

    def _tell_subscribed(
        self, session: KeptSession, packet_id: int, codes: Sequence[int], add: dict[str, int]
    ) -> None:
        link = session.link
        if link is None:
            return
        link.subscribed(packet_id, codes)
        for topic_filter, qos in add.items():
            if topic_filter in session.subscriptions:
                self._retained.begin(session, topic_filter, qos)
        self._retained.advance(session)

    # -- UNSUBSCRIBE -----------------------------------------------------------------------------

    def unsubscribe(self, session: KeptSession, filters: Sequence[str]) -> None:
        """Take the filters of an UNSUBSCRIBE, or the next part of a long one."""
        self._vary(session)
        session.removing.update(dict.fromkeys(at for at in filters if at in session.subscriptions))

    def unsubscribed(self, session: KeptSession, packet_id: int) -> None:
        """All filters of an UNSUBSCRIBE are taken: UNSUBACK follows."""
        remove, session.removing = session.removing, {}
        tell = partial(self._tell_unsubscribed, session, packet_id)
        self._begin(session, Change({}, remove, self._messages.partitions), tell)

    @staticmethod
    def _tell_unsubscribed(session: KeptSession, packet_id: int) -> None:
        if session.link is not None:
            session.link.unsubscribed(packet_id)

    # -- the log ---------------------------------------------------------------------------------

    def _begin(self, session: KeptSession, change: Change, tell: Callable[[], None]) -> None:
        """Append what changes, and tell the client once it holds everywhere."""
        if not (change.add or change.remove):
            tell()
            self._settle(session)
            return
        assert session.epoch is not None, "it has its CONNACK"
        session.varying.begin(change)
        self._since.setdefault(session, self.now_s)
        if len(session.varying) == CHANGES_MAX and session.link is not None:
            session.link.hold()
        fact = Subs(
            client_id=session.client_id,
            epoch=session.epoch,
            add=tuple((name, qos, 0) for name, qos in change.add.items()),
            remove=change.remove,
        )
        ticket = Refusable(session)
        place = self._facts.append_facts(session.partition, [fact], self.wall_ms, ticket)
        self._read_facts.expect(
            session.partition, place, partial(self._fact_read, session, change, tell)
        )

    def _fact_read(
        self, session: KeptSession, change: Change, tell: Callable[[], None], counts: bool
    ) -> None:
        """The session has it: let it hold in every partition."""
        if session.link is None or not counts:
            return
        assert session.epoch is not None, "it has its CONNACK"
        marker = Marker(
            client_id=session.client_id,
            epoch=session.epoch,
            incarnation=session.incarnation,
            add=tuple((name, qos, 0) for name, qos in change.add.items()),
            remove=change.remove,
        )
        ticket = Refusable(session)
        for partition in range(self._messages.partitions):
            place = self._messages.append_facts(partition, [marker], self.wall_ms, ticket)
            read = partial(self._marker_read, session, change, tell, partition)
            self._markers.expect(partition, place, read)

    def _marker_read(
        self,
        session: KeptSession,
        change: Change,
        tell: Callable[[], None],
        partition: int,
        _offset: int,
        counts: bool,
    ) -> None:
        """It holds in one more partition."""
        if session.link is None or not counts:
            return
        is_last = change.read(partition)
        filters: Collection[str] = {**change.add, **dict.fromkeys(change.remove)}
        for topic_filter in filters:
            self._router.outdate(topic_filter)
        if is_last:
            # Two that follow each other may remove the same filter.
            gone = [
                at
                for at in session.varying.settle(change)
                if at in session.subscriptions and at not in session.adding
            ]
            if len(session.varying) == CHANGES_MAX - 1:
                session.link.resume()
            for topic_filter in gone:
                session.bounds.remove(topic_filter)
            self._subscriptions.remove(session, gone)
            tell()
            self._settle(session)

    def _settle(self, session: KeptSession) -> None:
        """Something holds everywhere: nothing varies any more, if that was all."""
        self._since.pop(session, None)
        if session.varying:
            self._since[session] = self.now_s
        if not (session.varying or session.adding or session.removing):
            self._varied.subscribers.discard(session)

    def forget(self, session: KeptSession) -> None:
        """The connection has gone."""
        self._varied.subscribers.discard(session)
        self._held[session.partition].pop(session, None)
        self._since.pop(session, None)
