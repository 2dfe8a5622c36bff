"""The local engine: implements the session port for one process (``ARCHITECTURE.md`` 5 and 11)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.routing import Interest, Router
from monstermq_shared.sessions.local.backpressure import Backpressure, HoldLimits
from monstermq_shared.sessions.local.expiry import SessionExpiry
from monstermq_shared.sessions.local.open_ids import OpenIdLimit
from monstermq_shared.sessions.local.persistent import PersistentSession, Phase
from monstermq_shared.sessions.local.publishing import Publisher
from monstermq_shared.sessions.local.queue import QueueLimits, SessionQueue
from monstermq_shared.sessions.local.reads import QueueRead, Read, RetainedRead, page_size
from monstermq_shared.sessions.local.retained import RetainedMessages, SystemValues
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.system_watchers import SystemWatchers
from monstermq_shared.sessions.local.turn import Journal, Turn
from monstermq_shared.sessions.ports import (
    SUBSCRIPTION_REFUSED,
    Answer,
    AttachRequest,
    CloseReason,
    Link,
    Will,
)
from monstermq_shared.stores.ports import (
    CommitResult,
    QueuedMessage,
    SessionRow,
    StoredSession,
)

SHARED_PREFIX = "$share/"
"""Shared subscriptions are refused: as plain filters they would be granted and match nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the engine is told once.

    Attributes:
        in_flight_max: Unacknowledged QoS 1 and 2 messages per client.
        open_ids_max: Open inbound QoS 2 ids per client, see ``open_ids``.
        subscriptions_max: Subscriptions per client; more are refused with 0x80.
        topic_levels_max: Levels of a topic name.
        route_cache_max: Routes kept.
        queue: What may be queued for a session.
        hold: When publishers are held.
        session_expiry_s: A session without connection ends after this; None: never.
    """

    in_flight_max: int
    open_ids_max: int
    subscriptions_max: int
    topic_levels_max: int
    route_cache_max: int
    queue: QueueLimits
    hold: HoldLimits
    session_expiry_s: float | None


class LocalEngine:
    """Sessions, routing and durable facts of one process.

    The driver's half: ``take_turn`` and ``take_reads`` give it work; ``committed``, ``queue_page``
    and ``retained_page`` bring results; ``tick`` brings time. The connection's half is
    ``sessions.ports.SessionPort``.

    Attributes:
        sessions: Client id -> session, connected or persistent.
        connected: How many of them have a connection.
        retained: Replays and the overlay.
        journal: The collecting turn.
        router: All subscriptions.
        expiry: When sessions without connection end.
        system_watchers: Whether somebody subscribes to ``$SYS``.
    """

    def __init__(
        self,
        log: InternalLog,
        settings: EngineSettings,
        interest: Callable[[str], Interest],
        counters: Counters,
        system_values: SystemValues,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.journal = Journal(log, counters)
        self.router: Router[Session] = Router(
            interest, levels_max=settings.topic_levels_max, cache_max=settings.route_cache_max
        )
        self.sessions: dict[str, Session] = {}
        self.connected = 0
        self.expiry = SessionExpiry(settings.session_expiry_s)
        self.backpressure = Backpressure(settings.hold, counters)
        self._open_id_limit = OpenIdLimit(settings.open_ids_max)
        self.system_watchers = SystemWatchers()
        self._reads: list[Read] = []
        self._wall_us = 0  # as the last tick brought it, for what time itself causes
        self._page_max = page_size(settings.hold.pending_max)
        self.retained = RetainedMessages(
            self._reads.append, system_values, self._close, self._page_max
        )
        self.publisher = Publisher(
            self.router,
            self.journal,
            self.retained,
            self.backpressure,
            counters,
        )

    # -- coming and going ------------------------------------------------------------------------

    def attach(self, link: Link, request: AttachRequest, wall_us: int) -> Session:
        """See ``SessionPort.attach``."""
        old = self.sessions.get(request.client_id)
        if old is not None and old.link is not None:
            self.counters.takeovers += 1
            # The old connection ends before the new one is told anything [MQTT-3.1.4-2].
            self._close(old, CloseReason.TAKEN_OVER, wall_us)
            old = self.sessions.get(request.client_id)
        elif isinstance(old, PersistentSession) and self.expiry.is_over(old):
            self._expire(old)
            old = None
        present = False
        if request.clean:
            if old is not None:
                self._end(old)
            session = Session(request.client_id, self.journal, self.settings.in_flight_max)
        elif isinstance(old, PersistentSession):
            session = old
            present = True
            self.expiry.forget(session)
        else:
            session = self._persistent(request.client_id, self.journal.log.allot(1))
        self.sessions[request.client_id] = session
        session.link = link
        self.connected += 1
        self.counters.clients_maximum = max(self.counters.clients_maximum, self.connected)
        session.will = request.will
        self._open_id_limit.attached(session)
        self.system_watchers.attached(session)
        if isinstance(session, PersistentSession):
            session.phase = Phase.ATTACHING
            session.information = request.information
        if session.persistent or request.will is not None:
            self._write_row(session, True, wall_us, request.information)
        # A clean session is told durable facts too: that what it replaces is gone.
        durable = self.journal.is_waiting(request.client_id)
        self.journal.after(session, durable, self._attached, session, link, present)
        return session

    def _attached(self, session: Session, link: Link, present: bool) -> None:
        link.attached(present)
        if session.link is link and isinstance(session, PersistentSession):
            session.resume()

    def _persistent(self, client_id: str, incarnation: int) -> PersistentSession:
        return PersistentSession(
            client_id,
            self.journal,
            self.settings.in_flight_max,
            incarnation=incarnation,
            queue=SessionQueue(client_id, self.journal, self.settings.queue, self.counters),
            counters=self.counters,
            read=self._reads.append,
            page_max=self._page_max,
        )

    def _write_row(
        self,
        session: Session,
        connected: bool,
        wall_us: int,
        information: Mapping[str, str | int | bool],
    ) -> None:
        session.has_row = True
        persistent = isinstance(session, PersistentSession)
        row = SessionRow(
            client_id=session.client_id,
            incarnation=session.incarnation if isinstance(session, PersistentSession) else 0,
            clean=not persistent,
            connected=connected,
            updated_us=wall_us,
            information=dict(information),
            will=session.will,
        )
        self.journal.write_session(row)

    def _end(self, session: Session) -> None:
        """A session ends: nothing of it remains, in memory or in the database."""
        for topic_filter in session.subscriptions:
            self.router.remove(topic_filter, session)
        del self.sessions[session.client_id]
        self.system_watchers.ended(session)
        self.expiry.forget(session)
        if session.has_row:
            self.journal.end_client(session.client_id)

    def detach(self, session: Session, reason: CloseReason, wall_us: int) -> None:
        """See ``SessionPort.detach``."""
        link = session.link
        if link is None:
            return
        session.link = None
        self.connected -= 1
        self.backpressure.forget(session, link)
        self._open_id_limit.detached(session)
        self.system_watchers.detached(session)
        self.retained.forget(session)
        will, session.will = session.will, None
        if isinstance(session, PersistentSession):
            session.disconnect()
            self.expiry.left(session)
            self._write_row(session, False, wall_us, session.information)
        else:
            self._end(session)
        if will is not None and reason is not CloseReason.CLIENT_DISCONNECTED:
            self._publish_will(session.client_id, will, wall_us)

    def _publish_will(self, client_id: str, will: Will, wall_us: int) -> None:
        run = MessageRun.single(will.topic.encode(), will.payload, will.qos)
        run.retain = will.retain
        self.publisher.publish(client_id, run, wall_us, None)
        self.counters.wills_published += 1

    def _close(self, session: Session, reason: CloseReason, wall_us: int | None = None) -> None:
        """End a session's connection from our side."""
        link = session.link
        if link is not None:
            moment = wall_us if wall_us is not None else self._wall_us
            self.detach(session, reason, moment)
            link.close(reason)

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, session: Session, run: MessageRun, wall_us: int) -> None:
        """See ``SessionPort.publish``."""
        qos = run.qos
        if qos == 2:
            self._publish_exactly_once(session, run, wall_us)
            return
        durable = self.publisher.publish(session.client_id, run, wall_us, session.link)
        if qos == 1:
            link = session.link
            if link is not None:
                self.journal.after(session, durable, link.answer, Answer.PUBACK, run.packet_ids)
            if self.backpressure.overflowing or self._is_behind():
                self._bound(session)

    def _bound(self, session: Session) -> None:
        """Keep what waits within its bounds; answers that wait for a commit count too."""
        overflowing = self.backpressure.overflowing
        if overflowing:
            self.backpressure.overflowing = []
            self._give_up_on(overflowing, self._wall_us)
        if self._is_behind():
            self.backpressure.hold_for_backlog(session.link)

    def _is_behind(self) -> bool:
        """Whether more waits for the database than may."""
        return self.journal.backlog_size > self.backpressure.backlog_max

    def _publish_exactly_once(self, session: Session, run: MessageRun, wall_us: int) -> None:
        # Refuse before an id is opened: an open id says that its message is in the log.
        self.router.route(run.topic)
        fitting = self._open_id_limit.fitting(session, run.packet_ids)
        if fitting < run.count:
            if not fitting:
                return
            run = run.only(range(fitting))
        new = session.open_new(run, self.journal.log.next_offset)
        durable = session.persistent
        if len(new) < run.count:
            self.counters.duplicates_ignored += run.count - len(new)
        if new:
            fresh = run if len(new) == run.count else run.only(new)
            durable |= self.publisher.publish(session.client_id, fresh, wall_us, session.link)
        session.answer(Answer.PUBREC, run.packet_ids, durable=durable)
        self._bound(session)

    def publish_system(self, run: MessageRun) -> int:
        """Publish a ``$SYS`` message without a position; return how many subscribe to it."""
        targets = self.router.route(run.topic).targets
        for session, _ in targets:
            if session.link is not None:
                session.link.forward(run)
        return len(targets)

    # -- subscriptions ---------------------------------------------------------------------------

    def subscribe(
        self, session: Session, packet_id: int, filters: Sequence[tuple[str, int]]
    ) -> None:
        """See ``SessionPort.subscribe``."""
        link = session.link
        assert link is not None
        codes: list[int] = []
        granted: list[tuple[str, int]] = []
        subscriptions = session.subscriptions
        for topic_filter, qos in filters:
            known = topic_filter in subscriptions
            full = not known and len(subscriptions) >= self.settings.subscriptions_max
            if full or topic_filter.startswith(SHARED_PREFIX):
                codes.append(SUBSCRIPTION_REFUSED)
                self.counters.subscriptions_refused += 1
                continue
            subscriptions[topic_filter] = qos
            self.router.add(topic_filter, session, qos)
            granted.append((topic_filter, qos))
            codes.append(qos)
            if not known:
                self.system_watchers.subscribed(session, topic_filter)
        if session.persistent and granted:
            self.journal.write_subscriptions(session.client_id, dict(granted))
        durable = session.persistent and bool(granted)
        for topic_filter, qos in granted:
            self.retained.begin(session, topic_filter, qos)
        self.journal.after(session, durable, self._subscribed, session, link, packet_id, codes)
        self._bound(session)

    def _subscribed(
        self, session: Session, link: Link, packet_id: int, codes: Sequence[int]
    ) -> None:
        link.subscribed(packet_id, codes)
        if session.link is link:
            self.retained.advance(session)

    def unsubscribe(self, session: Session, packet_id: int, filters: Sequence[str]) -> None:
        """See ``SessionPort.unsubscribe``."""
        link = session.link
        assert link is not None
        removed: dict[str, int | None] = {}
        for topic_filter in filters:
            if session.subscriptions.pop(topic_filter, None) is not None:
                self.router.remove(topic_filter, session)
                self.retained.cancel(session, topic_filter)
                self.system_watchers.unsubscribed(session, topic_filter)
                removed[topic_filter] = None
        if session.persistent and removed:
            self.journal.write_subscriptions(session.client_id, removed)
        durable = session.persistent and bool(removed)
        self.journal.after(session, durable, link.unsubscribed, packet_id)
        self._bound(session)

    # -- acknowledgements ------------------------------------------------------------------------

    def acknowledge(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.acknowledge``."""
        session.acknowledge(packet_ids)
        self._advance(session)

    def receive(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.receive``."""
        session.receive(packet_ids)
        self._bound(session)

    def release(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.release``."""
        session.release(packet_ids)
        if self._open_id_limit.released(session):
            self.journal.after(session, False, self._end_beyond_limit, session, session.link)
        self._bound(session)

    def _end_beyond_limit(self, session: Session, link: Link) -> None:
        if session.link is link:
            self._close(session, CloseReason.QUOTA_EXCEEDED)

    def complete(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.complete``."""
        session.complete(packet_ids)
        self._advance(session)

    def drained(self, session: Session) -> None:
        """See ``SessionPort.drained``."""
        self.retained.advance(session)

    def is_overloaded(self) -> bool:
        """See ``SessionPort.is_overloaded``."""
        return self.backpressure.is_overloaded(self.journal.backlog_size)

    def is_connected(self, client_id: str) -> bool:
        """See ``SessionPort.is_connected``."""
        session = self.sessions.get(client_id)
        return session is not None and session.link is not None

    def _advance(self, session: Session) -> None:
        if session.pending_count:
            session.fill_window()
        if session.waiters is not None:
            self.backpressure.release_waiters(session)
        if self.retained.replays:
            self.retained.advance(session)

    # -- the driver's half -----------------------------------------------------------------------

    def restore(self, stored: Iterable[StoredSession], wall_us: int) -> list[str]:
        """Take over what the database holds, before anybody connects; return what was dropped.

        The wills of connections that ended with the process are published now (ARCHITECTURE 11.10),
        except those whose topic the configuration does not allow any more.
        """
        wills: list[tuple[str, Will]] = []
        away_s: list[tuple[PersistentSession, float]] = []
        for item in stored:
            row = item.row
            if row.connected and row.will is not None:
                wills.append((row.client_id, row.will))
            if row.clean:
                self.journal.end_client(row.client_id)
                continue
            session = self._persistent(row.client_id, row.incarnation)
            session.subscriptions = dict(item.subscriptions)
            session.open_ids = dict(item.open_ids) or None
            session.restore_in_flight(item.in_flight)
            session.queue.messages = item.queued_messages
            session.queue.size = item.queued_size
            session.information = row.information
            session.has_row = True
            away_us = 0 if row.connected else wall_us - row.updated_us
            away_s.append((session, away_us / 1_000_000))
            self.sessions[row.client_id] = session
            for topic_filter, qos in item.subscriptions.items():
                self.router.add(topic_filter, session, qos)
                self.system_watchers.subscribed(session, topic_filter)
            if row.connected:
                self._write_row(session, False, wall_us, row.information)
        self.expiry.restore(away_s)
        dropped: list[str] = []
        for client_id, will in wills:
            try:
                self._publish_will(client_id, will, wall_us)
            except InvalidTopic as exc:
                self.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += 1
                dropped.append(f"the will of {client_id!r} was dropped: {exc}")
        return dropped

    def take_turn(self) -> Turn | None:
        """Return the facts to commit now; None while a commit is running or there are none."""
        return self.journal.take()

    def committed(self, result: CommitResult) -> None:
        """The turn that was taken is committed and visible to readers."""
        turn = self.journal.committing
        assert turn is not None
        for client_id, trimmed in result.trimmed.items():
            session = self.sessions.get(client_id)
            asked = turn.clients[client_id].trim
            # A session that began since then has not asked for it.
            if (
                isinstance(session, PersistentSession)
                and asked is not None
                and session.incarnation < turn.upto
            ):
                session.queue.trimmed(asked, trimmed)
        self.retained.overlay.committed(turn.upto)
        self.journal.done()
        self.backpressure.release_backlog(self.journal.backlog_size)

    def take_reads(self) -> list[Read]:
        """Return what has to be read; each read is answered by a page, once."""
        reads = self._reads[:]
        self._reads.clear()
        return reads

    def queue_page(self, read: QueueRead, rows: Sequence[QueuedMessage]) -> None:
        """Bring the page of a queue that was asked for."""
        read.session.page(read, rows)
        self._advance(read.session)

    def retained_page(self, read: RetainedRead, records: Sequence[Record]) -> None:
        """Bring the page of retained messages that was asked for."""
        self.retained.page(read, records)

    def tick(self, now: float, wall_us: int) -> None:
        """Do what time causes, but for expiry. Call it before ``restore``, and once a second."""
        self._wall_us = wall_us
        self.expiry.now = now
        for away, away_s in self.expiry.redated():
            self._write_row(away, False, wall_us - int(away_s * 1_000_000), away.information)
        self._give_up_on(self.backpressure.overdue(now), wall_us)
        for session in self._open_id_limit.overdue(now):
            self._close(session, CloseReason.QUOTA_EXCEEDED, wall_us)

    def _give_up_on(self, sessions: Iterable[Session], wall_us: int) -> None:
        """End the patience with sessions: one goes on from its rows, or is disconnected."""
        for session in sessions:
            if session.link is None:
                continue
            if isinstance(session, PersistentSession) and self.settings.queue.enabled:
                session.fall_behind()
                self.backpressure.release_waiters(session)
            else:
                lost = session.pending_count + len(session.in_flight)
                self.counters.dropped[DropReason.SLOW_CONSUMER] += lost
                self._close(session, CloseReason.SLOW_CONSUMER, wall_us)

    def expire_sessions(self) -> int:
        """End sessions whose time is up; call it again until it returns that none was."""
        due = self.expiry.due()
        for session in due:
            self._expire(session)
        return len(due)

    def _expire(self, session: PersistentSession) -> None:
        self.counters.dropped[DropReason.SESSION_EXPIRED] += session.queue.messages
        self.counters.sessions_expired += 1
        self._end(session)
