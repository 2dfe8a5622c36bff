"""The local engine: implements the session port for one process (``ARCHITECTURE.md`` 5 and 11)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import DropReason, Refusal
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.local.lifecycle import SessionLifecycle
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.reads import QueueRead, Read
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.turn import Turn
from monstermq_shared.sessions.ports import Answer, Link
from monstermq_shared.sessions.retained import RetainedRead
from monstermq_shared.stores.changes import CommitResult, QueuedMessage

_PUBACK: Final = Answer.PUBACK  # read for every run, and an enumeration's members are slow


class LocalEngine(SessionLifecycle):
    """Sessions, routing and durable facts of one process.

    The driver's half: ``take_turn`` and ``take_reads`` give it work; ``committed``, ``queue_page``
    and ``retained_page`` bring results; ``tick`` brings time. The connection's half is
    ``sessions.ports.SessionPort``.
    """

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, session: Session, run: MessageRun, wall_ms: int) -> None:
        """See ``SessionPort.publish``."""
        qos = run.qos
        if qos == 2:
            self._publish_exactly_once(session, run, wall_ms)
            return
        link = session.link
        durable = self.publisher.publish(session.client_id, run, wall_ms, link)
        if self.publisher.fan_out is not None:
            self._answer_later(session, Answer.PUBACK, run.packet_ids, durable)
        elif qos and link is not None:
            session.answer(_PUBACK, run.packet_ids, durable=durable)
            if self.backpressure.overflowing or self._is_behind():
                self._bound(session)

    def _answer_later(
        self, session: Session, kind: Answer, packet_ids: Sequence[int], durable: bool
    ) -> None:
        """Acknowledge a run that goes out in pieces once it is out."""
        self._unanswered = (session, kind, packet_ids, durable)

    def work(self) -> bool:
        """Do a piece of what takes long; return whether there is more. Call it once per turn."""
        publisher = self.publisher
        fan_out = publisher.fan_out
        if fan_out is not None:
            publisher.go_on()
            if publisher.fan_out is None:
                self._fanned_out(fan_out.durable)
            return True
        return self.chores.work() if self.chores.waiting else False

    def _fanned_out(self, durable: bool) -> None:
        """A run has reached all its targets: go on with what waited for that."""
        if self._unanswered is not None:
            (session, kind, packet_ids, besides), self._unanswered = self._unanswered, None
            if packet_ids:
                session.answer(kind, packet_ids, durable=durable or besides)
            self._bound(session)
        postponed, self._postponed = self._postponed, []
        for call, arguments in postponed:
            call(*arguments)

    def is_postponed(self, call: Callable[..., object], *arguments: object) -> bool:
        """Let a call be made later if a run goes out in pieces now; return whether that is so."""
        if self.publisher.fan_out is None:
            return False
        self._postponed.append((call, arguments))
        return True

    def _bound(self, session: Session) -> None:
        """Keep what waits within its bounds; answers that wait for a commit count too."""
        self._give_up_on_overflowing()
        if self._is_behind():
            self.backpressure.hold_for_backlog(session.link)

    def _give_up_on_overflowing(self) -> None:
        overflowing = self.backpressure.overflowing
        if overflowing:
            self.backpressure.overflowing = {}
            self._give_up_on(overflowing, self._wall_ms)

    def _is_behind(self) -> bool:
        """Whether more waits for the database than may."""
        return self.journal.backlog_size > self.backpressure.backlog_max

    def _publish_exactly_once(self, session: Session, run: MessageRun, wall_ms: int) -> None:
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
            durable |= self.publisher.publish(session.client_id, fresh, wall_ms, session.link)
        if self.publisher.fan_out is not None:
            self._answer_later(session, Answer.PUBREC, run.packet_ids, durable)
        else:
            session.answer(Answer.PUBREC, run.packet_ids, durable=durable)
            self._bound(session)

    # -- subscriptions ---------------------------------------------------------------------------

    def holds_subscribe(self, session: Session) -> bool:
        """See ``SessionPort.holds_subscribe``: what was published before is out."""
        return False

    def subscribe(
        self, session: Session, filters: Sequence[tuple[str, int]]
    ) -> tuple[list[int], str]:
        """See ``SessionPort.subscribe``."""
        codes, refused, granted = self.subscriptions.add(session, filters)
        if session.persistent and granted:
            self.journal.write_subscriptions(session.client_id, granted)
        return codes, refused

    def subscribed(self, session: Session, packet_id: int, codes: Sequence[int]) -> None:
        """See ``SessionPort.subscribed``."""
        link = session.link
        assert link is not None
        durable = session.persistent and self.journal.is_waiting(session.client_id)
        self.journal.after(session, durable, self._subscribed, session, link, packet_id, codes)
        self._bound(session)

    def _subscribed(
        self, session: Session, link: Link, packet_id: int, codes: Sequence[int]
    ) -> None:
        link.subscribed(packet_id, codes)
        if session.link is link:
            self.retained.advance(session)

    def unsubscribe(self, session: Session, filters: Sequence[str]) -> None:
        """See ``SessionPort.unsubscribe``."""
        removed = self.subscriptions.remove(session, filters)
        if session.persistent and removed:
            self.journal.write_subscriptions(session.client_id, removed)

    def unsubscribed(self, session: Session, packet_id: int) -> None:
        """See ``SessionPort.unsubscribed``."""
        link = session.link
        assert link is not None
        durable = session.persistent and self.journal.is_waiting(session.client_id)
        self.journal.after(session, durable, link.unsubscribed, packet_id)
        self._bound(session)

    # -- acknowledgements ------------------------------------------------------------------------

    def receive(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.receive``."""
        session.receive(packet_ids)
        self.budget.left -= len(packet_ids)
        self._bound(session)

    def release(self, session: Session, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.release``."""
        session.release(packet_ids)
        self.budget.left -= len(packet_ids)
        if self._open_id_limit.released(session):
            self.journal.after(session, False, self._end_beyond_limit, session, session.link)
        self._bound(session)

    def _end_beyond_limit(self, session: Session, link: Link) -> None:
        if session.link is link:
            self._close(session, CloseReason.QUOTA_EXCEEDED)

    def drained(self, session: Session) -> None:
        """See ``SessionPort.drained``."""
        if not self.is_postponed(self.drained, session) and session.link is not None:
            self.retained.advance(session)

    def owes_answers(self, session: Session) -> bool:
        """See ``SessionPort.owes_answers``."""
        return self.is_busy or session.owes_answers

    def refusal(self, client_id: str, *, clean: bool) -> tuple[Refusal, str] | None:
        """See ``SessionPort.refusal``."""
        if self.is_overloaded():
            why = "too much waits for the database to take anybody in"
            return Refusal.SERVER_UNAVAILABLE, why
        sessions = self.sessions
        if not clean and len(sessions) >= self.settings.sessions_max and client_id not in sessions:
            return Refusal.SESSIONS_MAX, "as many sessions as Limits.Sessions allows are kept"
        return None

    def is_overloaded(self) -> bool:
        """Whether so much waits for the database that nobody new is to be let in."""
        return (
            self.backpressure.is_overloaded(self.journal.backlog_size)
            or any(backlog.is_overfull for backlog in self.views.backlogs)
            or self.subscriptions.is_overloaded
        )

    # -- the driver's half -----------------------------------------------------------------------

    def take_turn(self) -> Turn | None:
        """Return the facts to commit now; None while a commit is running or there are none.

        The rows of a run that goes out in pieces are committed together.
        """
        return None if self.is_busy else self.journal.take()

    def committed(self, result: CommitResult) -> None:
        """The turn that was taken is committed and visible to readers."""
        if self.is_postponed(self.committed, result):
            return
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
        for backlog in self.views.backlogs:
            backlog.show(turn.records, turn.upto)
        if self.views.retained is None:
            self.overlay.committed(turn.upto)
        self.journal.done()
        self.backpressure.release_backlog(self.journal.backlog_size)

    def retained_shown(self, upto: int) -> None:
        """A follower has committed the retained view up to there."""
        self.overlay.committed(upto)

    def take_reads(self) -> list[Read]:
        """Return what has to be read; each read is answered by a page, once."""
        reads = self._reads[:]
        self._reads.clear()
        return reads

    def needs(self, read: Read) -> bool:
        """Whether the page that was asked for is still of use: connections come and go."""
        if isinstance(read, QueueRead):
            return read.session.awaits(read)
        return self.retained.awaits(read)

    def queue_page(self, read: QueueRead, rows: Sequence[QueuedMessage]) -> None:
        """Bring the page of a queue that was asked for."""
        if self.is_postponed(self.queue_page, read, rows):
            return
        read.session.page(read, rows)
        self._advance(read.session)

    def retained_page(self, read: RetainedRead, records: Sequence[Record]) -> None:
        """Bring the page of retained messages that was asked for."""
        if not self.is_postponed(self.retained_page, read, records):
            self.retained.page(read, records)

    def tick(self, now: float, wall_ms: int) -> None:
        """Do what time causes, but for expiry. Call it before ``restore``, and once a second."""
        if self.is_busy:
            return
        self._wall_ms = wall_ms
        self.expiry.now = now
        for away, away_s in self.expiry.redated():
            self._write_row(away, False, wall_ms - int(away_s * 1000), away.information)
        for session in self._open_id_limit.overdue(now):
            self._close(session, CloseReason.QUOTA_EXCEEDED, wall_ms)
        self._give_up_on(self.backpressure.overdue(now), wall_ms)
        # Wills and appends come from no connection, so nobody has done this after them.
        self._give_up_on_overflowing()

    def _give_up_on(self, sessions: Iterable[Session], wall_ms: int) -> None:
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
                self._close(session, CloseReason.SLOW_CONSUMER, wall_ms)
