"""The distributed engine: implements the session port on a bus (``ARCHITECTURE.md`` 5)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from monstermq_shared.budget import Budget
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters, DropReason, Refusal
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.routing import Interest, Route, Router
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.distributed.connections import Connections
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_host import KeptHost
from monstermq_shared.sessions.distributed.kept_serving import KeptServing
from monstermq_shared.sessions.distributed.leases import Leases
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.own_runs import OwnRuns
from monstermq_shared.sessions.distributed.ports import FactWriter, MessageWriter, Ticket
from monstermq_shared.sessions.distributed.publishing import Publishing
from monstermq_shared.sessions.distributed.reading import MessageReading
from monstermq_shared.sessions.distributed.retained import BusRetainedLog
from monstermq_shared.sessions.distributed.retained_reads import RetainedReads
from monstermq_shared.sessions.distributed.rooms import Rooms
from monstermq_shared.sessions.distributed.session import BusSession, CleanSession, Owed
from monstermq_shared.sessions.distributed.settings import DistributedSettings, LogBegin
from monstermq_shared.sessions.distributed.stalls import Stalls
from monstermq_shared.sessions.distributed.subscribe_waits import (
    SUBSCRIBE_HOLD_S,
    SubscribeWaits,
)
from monstermq_shared.sessions.fan_out import Deliverer
from monstermq_shared.sessions.open_ids import OpenIdLimit
from monstermq_shared.sessions.ports import AttachRequest, Link
from monstermq_shared.sessions.retained import (
    RetainedMessages,
    RetainedRead,
    SystemValues,
    page_size,
)
from monstermq_shared.sessions.subscriptions import Subscriptions

KEPT_SESSIONS = (
    "sessions that outlive their connection (clean session 0) are not served while "
    "Kafka.Bus.ProtocolVersion is 1: connect with clean session 1"
)

NO_LEASE = "Kafka does not give back this edge's lease: its clients are held"

_UNREAD = "is read no more: see /ready"

_ATTACH_WORK = 40
_DETACH_WORK = 20


class DistributedEngine(KeptHost):
    """Sessions and routing of one edge.

    The host's half: ``begin`` says where reading begins, ``messages_read`` and ``facts_read`` bring
    what was read, ``appended``, ``refused`` and ``room`` what became of appends, ``ends`` and
    ``reflected`` what was asked; ``tick`` brings time, and ``work`` is called once per turn of the
    event loop. The connection's half is ``sessions.ports.SessionPort``.

    Attributes:
        settings: What it was told.
        counters: What it raises.
        connections: Who is connected.
        reading: What was read of the log of messages.
        own: What was published here and not read back.
        overlay: What is retained and not in the table yet.
        stalls: Whose clients wait for a lease (E13), at first all; and those of partitions that are
            read no more (R6).
        subscriptions: All of them, with what hangs on them.
        system_watchers: Whether somebody subscribes to ``$SYS``.
        chores: What is left of sessions that have ended.
    """

    def __init__(
        self,
        messages: MessageWriter,
        facts: FactWriter,
        settings: DistributedSettings,
        counters: Counters,
        *,
        system_values: SystemValues,
        budget: Budget,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.budget = budget
        self.chores = Chores()
        self._messages = messages
        self._facts = facts
        self.kept = KeptServing(
            messages, facts, settings, self._append_stamped, self._close, counters
        )
        nobody = Interest(wanted=False, durable=False, durable_retained=False)
        self.router = Router(
            lambda _: nobody,
            levels_max=settings.topic_levels_max,
            cache_max=settings.route_cache_max,
            budget=budget,
            varied=self.kept.varied,
        )
        self.backpressure = Backpressure(settings.hold, counters)
        self.own = OwnRuns(messages.run, messages.partitions)
        self.overlay = BusOverlay(settings.overlay_size_max, counters)
        self._open_id_limit = OpenIdLimit[BusSession](settings.open_ids_max)
        self._rooms = Rooms(messages, self.own, self.backpressure, counters)
        self._retained_reads = RetainedReads(self.overlay, self.chores)
        self._subscribe_waits = SubscribeWaits(self.own)
        self._page_max = page_size(settings.hold.pending_max)
        self._build_reading(system_values)
        self._stalls_changed = False
        self.stalls = Stalls(facts.partitions, self._stall)
        self.leases = Leases(facts, settings.lease_s, self.stalls.renewed)
        self.connections = Connections(
            *(facts, self.kept.states, self.kept.read_facts),
            *(self._left, self._begun, counters),
        )
        self.kept.serve_with(
            self.subscriptions, self.chores, self.connections.sessions.get, self._served
        )

    def _build_reading(self, system_values: SystemValues) -> None:
        log = BusRetainedLog(self._messages, self.overlay)
        self.retained = RetainedMessages(
            log,
            self._retained_reads.ask,
            system_values,
            self._close,
            self.chores.add,
            self._page_max,
        )
        self._retained_reads.retained = self.retained
        self.subscriptions = Subscriptions(
            self.router,
            self.retained,
            self.chores,
            self.counters,
            budget=self.budget,
            per_client_max=self.settings.subscriptions_max,
        )
        self.system_watchers = self.subscriptions.watchers
        self.reading = MessageReading(
            run=self._messages.run,
            own=self.own,
            deliverer=Deliverer(self.backpressure, self.budget),
            router=self.router,
            overlay=self.overlay,
            retained=self.retained,
            facts=self.kept.bus_facts,
            kept=self.kept.publishing,
            counters=self.counters,
            budget=self.budget,
        )
        log.positions = self.reading.positions
        self._publishing = Publishing(
            messages=self._messages,
            router=self.router,
            reading=self.reading,
            own=self.own,
            rooms=self._rooms,
            open_id_limit=self._open_id_limit,
            kept=self.kept.publishing,
            counters=self.counters,
        )

    def begin(self, begin: LogBegin) -> None:
        """Reading begins here. Before that there is no lease, and nobody is served (E1)."""
        self.overlay.begin(begin.messages)
        self.reading.begin(begin.reading)
        self.kept.begin(begin)
        self.connections.positions.update(begin.sessions)

    # -- coming and going ------------------------------------------------------------------------

    def refusal(self, client_id: str, *, clean: bool) -> tuple[Refusal, str] | None:
        """See ``SessionPort.refusal``."""
        if not clean and not self.settings.serves_kept:
            return Refusal.KEPT_SESSION, KEPT_SESSIONS
        partition = self._facts.partition_of(client_id)
        if partition in self.connections.stopped:
            return Refusal.SERVER_UNAVAILABLE, f"sessions partition {partition} {_UNREAD}"  # R6
        why_not = "" if clean else self._why_not_kept(partition)
        if why_not:
            return Refusal.SERVER_UNAVAILABLE, why_not  # E2
        if (
            self.backpressure.is_overloaded(self._rooms.size)
            or self.connections.is_full(partition)
            or self.subscriptions.is_overloaded
        ):
            return Refusal.SERVER_UNAVAILABLE, "too much waits for the log to take anybody in"
        return None

    def _why_not_kept(self, partition: int) -> str:
        for stopped in self.reading.stopped:
            # Its markers would never be read back (E3).
            return f"bus partition {stopped} {_UNREAD}"
        return self.kept.states.why_not(partition)

    def attach(self, link: Link, request: AttachRequest, wall_ms: int) -> BusSession:
        """See ``SessionPort.attach``."""
        self.budget.left -= _ATTACH_WORK
        partition = self._facts.partition_of(request.client_id)
        session: BusSession
        if request.clean:
            window = self.settings.in_flight_max
            session = CleanSession(request.client_id, window, partition, self._refused)
        else:
            session = self.kept.new_session(request, partition, self._refused)
        self.connections.wall_ms = wall_ms
        expiry_s = 0 if request.clean else self.kept.expiry_s
        self.connections.attach(session, link, request, expiry_s)
        return session

    def detach(self, session: BusSession, reason: CloseReason, wall_ms: int) -> None:
        """See ``SessionPort.detach``."""
        self.budget.left -= _DETACH_WORK
        self.connections.wall_ms = wall_ms
        self.connections.detach(session, reason)

    def _begun(self, session: BusSession, _: Link) -> None:
        """A claim was read back: CONNACK follows, at once or after markers (E3, E4)."""
        self.system_watchers.attached(session)
        if session.partition in self.stalls:
            session.stall()
        if isinstance(session, KeptSession):
            self.kept.claimed(session)
        else:
            self._open_id_limit.attached(session)
            self.connections.serve(session, present=False)

    def _served(self, session: KeptSession) -> None:
        """A kept session is known, and marked everywhere (E3)."""
        self.kept.publishing.begin(session)
        self._open_id_limit.attached(session)
        self.connections.serve(session, present=not session.is_new)
        session.start()

    def _left(self, session: BusSession, link: Link) -> None:
        """A connection has gone, and with it its session."""
        self.backpressure.forget(session, link)
        self._open_id_limit.detached(session)
        self.system_watchers.detached(session)
        self.retained.forget(session)
        self._subscribe_waits.forget(session)
        if isinstance(session, KeptSession):
            self.kept.left(session)
        session.end()
        self.subscriptions.end(session)

    def _close(self, session: BusSession, reason: CloseReason) -> None:
        """End a session's connection from our side."""
        link = session.link
        if link is not None:
            self.connections.detach(session, reason)
            link.close(reason)

    def _close_overdue(self, sessions: Sequence[BusSession]) -> Iterator[int]:
        for session in sessions:
            if session.epoch is None or not session.is_up:
                self._close(session, CloseReason.CONNECT_TIMEOUT)
            yield _DETACH_WORK

    def _refused(self, session: BusSession) -> None:
        self._close(session, CloseReason.APPEND_REFUSED)

    def is_connected(self, client_id: str) -> bool:
        """See ``SessionPort.is_connected``."""
        return self.connections.is_connected(client_id)

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, session: BusSession, run: MessageRun, wall_ms: int) -> None:
        """See ``SessionPort.publish``: append; who is to receive it is known when it is read."""
        self._publishing.publish(session, run, wall_ms)

    def _append_stamped(
        self,
        session: BusSession,
        route: Route[BusSession],
        run: MessageRun,
        wall_ms: int,
        owed: Owed,
    ) -> None:
        self._publishing.append(session, route, run, wall_ms, owed)

    def release(self, session: BusSession, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.release``."""
        if isinstance(session, KeptSession):
            self.kept.publishing.release(session, packet_ids, self.connections.wall_ms)
        else:
            session.release(packet_ids)
        self.budget.left -= len(packet_ids)
        # PUBCOMPs of a kept one wait for the log: it ends after them, at a tick.
        if self._open_id_limit.released(session) and not session.persistent:
            self._close(session, CloseReason.QUOTA_EXCEEDED)

    def receive(self, session: BusSession, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.receive``."""
        session.receive(packet_ids)
        self.budget.left -= len(packet_ids)

    def owes_answers(self, session: BusSession) -> bool:
        """See ``SessionPort.owes_answers``."""
        return session.owes_answers

    # -- subscriptions ---------------------------------------------------------------------------

    def holds_subscribe(self, session: BusSession) -> bool:
        """See ``SessionPort.holds_subscribe``."""
        if isinstance(session, KeptSession) and self.kept.subscribing.holds(session):
            return True
        return self._subscribe_waits.holds(session, self.connections.now_s)

    def subscribe(
        self, session: BusSession, filters: Sequence[tuple[str, int]]
    ) -> tuple[list[int], str]:
        """See ``SessionPort.subscribe``: routes at once (E4), a kept one at its markers (E10)."""
        if isinstance(session, KeptSession):
            return self.kept.subscribing.subscribe(session, filters)
        codes, refused, _ = self.subscriptions.add(session, filters)
        return codes, refused

    def subscribed(self, session: BusSession, packet_id: int, codes: Sequence[int]) -> None:
        """See ``SessionPort.subscribed``: SUBACK of a clean session waits for nothing."""
        if isinstance(session, KeptSession):
            self.kept.subscribing.subscribed(session, packet_id, codes)
            return
        link = session.link
        assert link is not None
        link.subscribed(packet_id, codes)
        self.retained.advance(session)

    def unsubscribe(self, session: BusSession, filters: Sequence[str]) -> None:
        """See ``SessionPort.unsubscribe``."""
        if isinstance(session, KeptSession):
            self.kept.subscribing.unsubscribe(session, filters)
            return
        self.subscriptions.remove(session, filters)

    def unsubscribed(self, session: BusSession, packet_id: int) -> None:
        """See ``SessionPort.unsubscribed``."""
        if isinstance(session, KeptSession):
            self.kept.subscribing.unsubscribed(session, packet_id)
            return
        link = session.link
        assert link is not None
        link.unsubscribed(packet_id)

    def drained(self, session: BusSession) -> None:
        """See ``SessionPort.drained``."""
        if session.link is not None:
            self.retained.advance(session)

    # -- the host's half -------------------------------------------------------------------------

    def appended(self, tickets: Iterable[Ticket]) -> None:
        """The log has what these tickets went with."""
        for ticket in tickets:
            ticket.appended()

    def refused(self, tickets: Iterable[Ticket]) -> None:
        """What these tickets went with stays refused (R1)."""
        for ticket in tickets:
            ticket.refused()

    def room(self, partition: int) -> None:
        """A partition of the log of messages is not full any more (E14)."""
        self._rooms.cleared(partition)

    def messages_read(self, batch: RecordBatch) -> None:
        """Bring what was read of the log of messages."""
        self.reading.add(batch)

    def facts_read(self, batch: RecordBatch) -> None:
        """Bring what was read of the sessions log."""
        self.connections.add(batch)

    def work(self) -> bool:
        """Do a piece of what there is to do; return whether there is more. Once per turn."""
        self.kept.turn(self.connections.now_s, self.connections.wall_ms)
        more = bool(self.chores.waiting) and self.chores.work()
        more |= self.connections.work()
        more |= self.kept.work()
        reading, stalls = self.reading, self.stalls
        for partition in self.connections.stopped:
            stalls.stop(partition)
        reading.is_paused = stalls.is_deaf(self.connections.positions)
        more |= reading.work()
        if self.backpressure.overflowing:
            overflowing, self.backpressure.overflowing = self.backpressure.overflowing, {}
            self._give_up_on(overflowing)
        self.backpressure.release_backlog(self._rooms.size)
        if len(self._subscribe_waits):
            self._subscribe_waits.let_go_on()
        if len(stalls):
            stalls.look(reading.positions, self.connections.positions, reading.stopped)
        if self._stalls_changed:
            self._stalls_changed = False
            sessions = [*self.connections.sessions.values()]
            self.chores.add(self._stall_each(sessions), len(sessions))
        self.kept.port.append_acks()
        return more | self.overlay.forget() | bool(self.chores.waiting)

    def tick(self, now_s: float, wall_ms: int) -> None:
        """Do what time causes: call it once a second, and more often for short leases."""
        connections = self.connections
        connections.now_s, connections.wall_ms = now_s, wall_ms
        if not connections.positions:
            return
        self._rooms.look()
        self.leases.tick(now_s, wall_ms)
        for partition in self.leases.missed(now_s):
            self.stalls.missed(partition)
        if overdue := connections.take_overdue(now_s - self.settings.connect_timeout_s):
            self.chores.add(self._close_overdue(overdue), len(overdue))
        for kept in self.kept.subscribing.overdue(now_s - self.settings.connect_timeout_s):
            self._close(kept, CloseReason.CONNECT_TIMEOUT)  # E14
        for session in self._open_id_limit.overdue(now_s):
            self._close(session, CloseReason.QUOTA_EXCEEDED)
        self._give_up_on(self.backpressure.overdue(now_s))
        # A partition that cannot be read must not keep anybody from subscribing (E4).
        self._subscribe_waits.let_go_on(since_s=now_s - SUBSCRIBE_HOLD_S)

    def _give_up_on(self, sessions: Iterable[BusSession]) -> None:
        """A subscriber is too slow: its connection ends, or rows take what comes (E6)."""
        for session in sessions:
            if isinstance(session, KeptSession):
                session.fall_behind()
                self.backpressure.let_go(session)
            elif session.link is not None:
                lost = session.pending_count + len(session.in_flight)
                self.counters.dropped[DropReason.SLOW_CONSUMER] += lost
                self._close(session, CloseReason.SLOW_CONSUMER)

    def _stall(self) -> None:
        """Clients of a partition, mostly of all, have to wait or may go on (E13)."""
        self._stalls_changed = True

    def _stall_each(self, sessions: Sequence[BusSession]) -> Iterator[int]:
        """Let clients wait or go on, bit by bit, as their partitions are when it is their turn."""
        for session in sessions:
            if session.partition in self.stalls:
                session.stall()
            else:
                session.go_on()
            yield 1

    def ends(self, messages: Mapping[int, int], sessions: Mapping[int, int]) -> None:
        """Bring the ends of both logs, asked after ``stalls.asks_ends``."""
        self.stalls.ends(messages, sessions)

    def unready(self) -> list[str]:
        """Return why clients should not be sent here now."""
        reasons = [f"bus partition {p} {why}" for p, why in self.reading.stopped.items()]
        reasons += [f"sessions partition {p} {why}" for p, why in self.connections.stopped.items()]
        if len(self.stalls) == self._facts.partitions:
            reasons.append(NO_LEASE)
        elif len(self.stalls):
            count, all_of_them = len(self.stalls), self._facts.partitions
            reasons.append(f"{NO_LEASE} ({count} of {all_of_them} partitions)")
        full = self._rooms.full
        if full:
            reasons.append(f"Kafka takes nothing in partition {', '.join(map(str, full))}")
        return reasons

    # -- what is retained ------------------------------------------------------------------------

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The table of retained messages shows the partitions up to here."""
        self._retained_reads.reflected(positions)

    @property
    def retained_lag(self) -> int:
        """Records that were read here and that the table of retained messages does not reflect."""
        return self.overlay.behind(self.reading.positions)

    def take_reads(self) -> list[RetainedRead]:
        """Return what has to be read; each read is answered by a page, once."""
        return self._retained_reads.take()

    def needs(self, read: RetainedRead) -> bool:
        """Whether the page that was asked for is still of use: connections come and go."""
        return self.retained.awaits(read)

    def retained_page(
        self, read: RetainedRead, records: Sequence[Record], reflected: Mapping[int, int]
    ) -> None:
        """Bring a page, with up to where each partition was in it (V2)."""
        self._retained_reads.page(read, records, reflected)
