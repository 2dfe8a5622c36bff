"""Sessions come and go: attach, detach, takeover, wills, expiry, and what a start finds.

The base of ``LocalEngine``; what a session does in between stands there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from monstermq_shared.budget import Budget
from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.filter_shapes import FilterTooCostlyError
from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.projections.overlay import Overlay
from monstermq_shared.records import Record
from monstermq_shared.routing import Router
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.core import EngineCore
from monstermq_shared.sessions.local.expiry import SessionExpiry
from monstermq_shared.sessions.local.persistent import PersistentSession, Phase
from monstermq_shared.sessions.local.publishing import Publisher
from monstermq_shared.sessions.local.queue import SessionQueue
from monstermq_shared.sessions.local.reads import Read
from monstermq_shared.sessions.local.retained import LocalRetainedLog
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.settings import EngineSettings
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.local.views import EngineViews
from monstermq_shared.sessions.open_ids import OpenIdLimit
from monstermq_shared.sessions.ports import Answer, AttachRequest, Link
from monstermq_shared.sessions.retained import RetainedMessages, SystemValues, page_size
from monstermq_shared.sessions.subscriptions import Subscriptions
from monstermq_shared.stores.changes import SessionRow, StoredSession

_ATTACH_WORK = 40
_DETACH_WORK = 20


class SessionLifecycle(EngineCore[Session]):
    """All sessions of this process, and the parts that they share.

    Attributes:
        settings: What it was told.
        counters: What it raises.
        sessions: Client id -> session, connected or persistent.
        connected: How many of them have a connection.
        retained: Replays.
        overlay: What is retained and not in the table yet.
        journal: The collecting turn.
        router: All subscriptions.
        backpressure: Who is held.
        publisher: The way of a message.
        budget: What is left for this turn of the event loop; whoever drives the engine refills it.
        chores: What is left of sessions that have ended.
        subscriptions: All of them, with what hangs on them.
        expiry: When sessions without connection end.
        system_watchers: Whether somebody subscribes to ``$SYS``.
        views: Who wants which records.
    """

    def __init__(
        self,
        log: InternalLog,
        settings: EngineSettings,
        views: EngineViews,
        counters: Counters,
        system_values: SystemValues,
        budget: Budget,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.journal = Journal(log, counters)
        self.budget = budget
        self.chores = Chores()
        self.router: Router[Session] = Router(
            views.interest,
            levels_max=settings.topic_levels_max,
            cache_max=settings.route_cache_max,
            budget=budget,
        )
        self.sessions: dict[str, Session] = {}
        self.connected = 0
        self.expiry = SessionExpiry(settings.session_expiry_s)
        self.backpressure = Backpressure[Session](settings.hold, counters)
        self._open_id_limit = OpenIdLimit[Session](settings.open_ids_max)
        self._reads: list[Read] = []
        self._wall_ms = 0  # as the last tick brought it, for what time itself causes
        self._page_max = page_size(settings.hold.pending_max)
        self.views = views
        for backlog in views.backlogs:
            backlog.emptied = self.backpressure.release_follower
        self.overlay = Overlay()
        self.retained = self._replays(log, system_values)
        self.subscriptions = Subscriptions(
            self.router,
            self.retained,
            self.chores,
            counters,
            budget=budget,
            per_client_max=settings.subscriptions_max,
        )
        self.system_watchers = self.subscriptions.watchers
        self.publisher = Publisher(
            self.router,
            self.journal,
            self.retained,
            self.backpressure,
            budget,
            counters,
        )
        # What a run that goes out in pieces is answered with, and what happened meanwhile.
        self._unanswered: tuple[Session, Answer, Sequence[int], bool] | None = None
        self._postponed: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        # What a start has found so far.
        self._restored_wills: list[tuple[str, Will]] = []
        self._restored_away_s: list[tuple[PersistentSession, float]] = []

    def _replays(self, log: InternalLog, system_values: SystemValues) -> RetainedMessages[Session]:
        return RetainedMessages(
            LocalRetainedLog(log, self.overlay, self._not_shown),
            self._reads.append,
            system_values,
            self._close,
            self.chores.add,
            self._page_max,
        )

    def _not_shown(self) -> Iterator[Sequence[Record]]:
        """Yield the records that the retained view may not show yet, in order of offset."""
        if self.views.retained is not None:
            yield from self.views.retained.uncommitted()
        yield from self.journal.uncommitted()

    @property
    def is_busy(self) -> bool:
        """Whether a run goes out in pieces: until that is done, no connection may ask anything."""
        return self.publisher.fan_out is not None

    # -- coming and going ------------------------------------------------------------------------

    def attach(self, link: Link, request: AttachRequest, wall_ms: int) -> Session:
        """See ``SessionPort.attach``."""
        self.budget.left -= _ATTACH_WORK
        old = self.sessions.get(request.client_id)
        if old is not None and old.link is not None:
            self.counters.takeovers += 1
            # The old connection ends before the new one is told anything [MQTT-3.1.4-2].
            self._close(old, CloseReason.TAKEN_OVER, wall_ms)
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
            self._write_row(session, True, wall_ms, request.information)
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
        wall_ms: int,
        information: Mapping[str, str | int | bool],
    ) -> None:
        session.has_row = True
        persistent = isinstance(session, PersistentSession)
        row = SessionRow(
            client_id=session.client_id,
            incarnation=session.incarnation if isinstance(session, PersistentSession) else 0,
            clean=not persistent,
            connected=connected,
            updated_ms=wall_ms,
            information=dict(information),
            will=session.will,
        )
        self.journal.write_session(row)

    def _end(self, session: Session) -> None:
        """A session ends: nothing of it remains, in memory or in the database.

        Many subscriptions go bit by bit; what they still match is not taken any more.
        """
        session.end()
        del self.sessions[session.client_id]
        self.expiry.forget(session)
        self.subscriptions.end(session)
        if session.has_row:
            self.journal.end_client(session.client_id)

    def detach(self, session: Session, reason: CloseReason, wall_ms: int) -> None:
        """See ``SessionPort.detach``."""
        if self.is_busy:
            self._postponed.append((self.detach, (session, reason, wall_ms)))
            return
        self.budget.left -= _DETACH_WORK
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
            self._write_row(session, False, wall_ms, session.information)
        else:
            self._end(session)
        if will is not None and reason is not CloseReason.CLIENT_DISCONNECTED:
            self._publish_will(session.client_id, will, wall_ms)

    def _publish_will(self, client_id: str, will: Will, wall_ms: int) -> None:
        run = MessageRun.single(will.topic.encode(), will.payload, will.qos)
        run.retain = will.retain
        self.publisher.publish(client_id, run, wall_ms, None)
        self.counters.wills_published += 1

    def _close(self, session: Session, reason: CloseReason, wall_ms: int | None = None) -> None:
        """End a session's connection from our side."""
        link = session.link
        if link is not None:
            moment = wall_ms if wall_ms is not None else self._wall_ms
            self.detach(session, reason, moment)
            link.close(reason)

    def is_connected(self, client_id: str) -> bool:
        """See ``SessionPort.is_connected``."""
        session = self.sessions.get(client_id)
        return session is not None and session.link is not None

    # -- start and time --------------------------------------------------------------------------

    def restore(self, stored: Iterable[StoredSession], wall_ms: int) -> list[str]:
        """Take over a page of what the database holds; return what was dropped.

        All of it comes before anybody connects, and ``restored`` ends it.
        """
        dropped: list[str] = []
        for item in stored:
            row = item.row
            if row.connected and row.will is not None:
                self._restored_wills.append((row.client_id, row.will))
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
            away_ms = 0 if row.connected else wall_ms - row.updated_ms
            self._restored_away_s.append((session, away_ms / 1000))
            self.sessions[row.client_id] = session
            dropped += self._restore_subscriptions(session)
            if row.connected:
                self._write_row(session, False, wall_ms, row.information)
        return dropped

    def restored(self, wall_ms: int) -> list[str]:
        """All sessions are back; return what was dropped of the rest.

        The wills of connections that ended with the process are published now (ARCHITECTURE 11.10),
        except those whose topic the configuration does not allow any more.
        """
        away_s, self._restored_away_s = self._restored_away_s, []
        self.expiry.restore(away_s)
        wills, self._restored_wills = self._restored_wills, []
        dropped: list[str] = []
        for client_id, will in wills:
            try:
                self._publish_will(client_id, will, wall_ms)
            except InvalidTopic as exc:
                self.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += 1
                dropped.append(f"the will of {client_id!r} was dropped: {exc}")
            while self.is_busy:
                self.publisher.go_on()
        return dropped

    def _restore_subscriptions(self, session: Session) -> Iterator[str]:
        """Route to a restored session; yield what cannot be."""
        for topic_filter, qos in list(session.subscriptions.items()):
            try:
                self.router.add(topic_filter, session, qos)
            except FilterTooCostlyError as exc:
                del session.subscriptions[topic_filter]
                yield f"{session.client_id!r} is not served {topic_filter[:80]!r}: {exc}"
            else:
                self.system_watchers.subscribed(session, topic_filter)

    def expire_sessions(self) -> int:
        """End sessions whose time is up; call it again until it returns that none was."""
        if self.is_busy:
            return 0
        due = self.expiry.due()
        for session in due:
            self._expire(session)
        return len(due)

    def _expire(self, session: PersistentSession) -> None:
        self.counters.dropped[DropReason.SESSION_EXPIRED] += session.queue.messages
        self.counters.sessions_expired += 1
        self._end(session)
