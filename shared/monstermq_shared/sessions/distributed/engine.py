"""The distributed engine: implements the session port on a bus (``ARCHITECTURE.md`` 5)."""

from collections import deque
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
from monstermq_shared.sessions.core import EngineCore
from monstermq_shared.sessions.distributed.connections import Connections
from monstermq_shared.sessions.distributed.leases import Leases
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.own_runs import OwnRun, OwnRuns
from monstermq_shared.sessions.distributed.ports import FactWriter, MessageWriter, Ticket
from monstermq_shared.sessions.distributed.reading import MessageReading
from monstermq_shared.sessions.distributed.retained import BusRetainedLog
from monstermq_shared.sessions.distributed.rooms import Rooms
from monstermq_shared.sessions.distributed.session import CleanSession, Owed
from monstermq_shared.sessions.distributed.settings import DistributedSettings, LogBegin
from monstermq_shared.sessions.distributed.stalls import Stalls
from monstermq_shared.sessions.fan_out import Deliverer
from monstermq_shared.sessions.open_ids import OpenIdLimit
from monstermq_shared.sessions.ports import Answer, AttachRequest, Link
from monstermq_shared.sessions.retained import (
    RetainedMessages,
    RetainedRead,
    SystemValues,
    page_size,
)
from monstermq_shared.sessions.subscriptions import Subscriptions

SUBSCRIBE_HOLD_S = 1.0
"""How long a SUBSCRIBE waits, at most, for what was published before it."""

KEPT_SESSIONS = (
    "sessions that outlive their connection (clean session 0) are not kept on Kafka yet, they "
    "come with the next release: connect with clean session 1"
)

NO_LEASE = "Kafka does not give back this edge's lease: its clients are held"

_ATTACH_WORK = 40
_DETACH_WORK = 20


class DistributedEngine(EngineCore[CleanSession]):
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
        stalls: Whose clients wait for a lease (E13); at first, all.
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
        nobody = Interest(wanted=False, durable=False, durable_retained=False)
        self.router = Router(
            lambda _: nobody,
            levels_max=settings.topic_levels_max,
            cache_max=settings.route_cache_max,
            budget=budget,
        )
        self.backpressure = Backpressure(settings.hold, counters)
        self.own = OwnRuns(messages.run, messages.partitions)
        self.overlay = BusOverlay(settings.overlay_size_max, counters)
        self._open_id_limit = OpenIdLimit[CleanSession](settings.open_ids_max)
        self._rooms = Rooms(messages, self.own, self.backpressure, counters)
        # Reads that are asked for, and those that have to wait for the table.
        self._reads: list[RetainedRead] = []
        # SUBSCRIBEs that wait: for which run, since when, whose; and those that have waited.
        self._subscribing: deque[tuple[int, float, CleanSession, Link]] = deque()
        self._forgiven: dict[CleanSession, None] = {}
        self._early: list[RetainedRead] = []
        self._page_max = page_size(settings.hold.pending_max)
        self._build_reading(system_values)
        self._stalls_changed = False
        self.stalls = Stalls(facts.partitions, self._stall)
        self.leases = Leases(facts, settings.lease_s, self.stalls.renewed)
        self.connections = Connections(facts, self._left, self._begun, counters)

    def _build_reading(self, system_values: SystemValues) -> None:
        log = BusRetainedLog(self._messages, self.overlay)
        self.retained = RetainedMessages(
            log,
            self._reads.append,
            system_values,
            self._close,
            self.chores.add,
            self._page_max,
        )
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
            counters=self.counters,
            budget=self.budget,
        )
        log.positions = self.reading.positions

    def begin(self, begin: LogBegin) -> None:
        """Reading begins here. Before that there is no lease, and nobody is served (E1)."""
        self.overlay.begin(begin.messages)
        self.reading.begin(begin.messages, begin.fences)
        self.connections.positions.update(begin.sessions)

    # -- coming and going ------------------------------------------------------------------------

    def refusal(self, client_id: str, *, clean: bool) -> tuple[Refusal, str] | None:
        """See ``SessionPort.refusal``."""
        if not clean:
            return Refusal.KEPT_SESSION, KEPT_SESSIONS
        partition = self._facts.partition_of(client_id)
        if (
            self.backpressure.is_overloaded(self._rooms.size)
            or self.connections.is_full(partition)
            or self.subscriptions.is_overloaded
        ):
            return Refusal.SERVER_UNAVAILABLE, "too much waits for the log to take anybody in"
        return None

    def attach(self, link: Link, request: AttachRequest, wall_ms: int) -> CleanSession:
        """See ``SessionPort.attach``."""
        self.budget.left -= _ATTACH_WORK
        session = CleanSession(
            request.client_id,
            self.settings.in_flight_max,
            self._facts.partition_of(request.client_id),
            self._refused,
        )
        self.connections.wall_ms = wall_ms
        self.connections.attach(session, link, request)
        return session

    def detach(self, session: CleanSession, reason: CloseReason, wall_ms: int) -> None:
        """See ``SessionPort.detach``."""
        self.budget.left -= _DETACH_WORK
        self.connections.wall_ms = wall_ms
        self.connections.detach(session, reason)

    def _begun(self, session: CleanSession, _: Link) -> None:
        """A claim was read back: CONNACK follows (E4)."""
        self._open_id_limit.attached(session)
        self.system_watchers.attached(session)
        if session.partition in self.stalls:
            session.stall()

    def _left(self, session: CleanSession, link: Link) -> None:
        """A connection has gone, and with it its session."""
        self.backpressure.forget(session, link)
        self._open_id_limit.detached(session)
        self.system_watchers.detached(session)
        self.retained.forget(session)
        self._forgiven.pop(session, None)
        session.end()
        self.subscriptions.end(session)

    def _close(self, session: CleanSession, reason: CloseReason) -> None:
        """End a session's connection from our side."""
        link = session.link
        if link is not None:
            self.connections.detach(session, reason)
            link.close(reason)

    def _close_overdue(self, sessions: Sequence[CleanSession]) -> Iterator[int]:
        for session in sessions:
            if session.epoch is None:
                self._close(session, CloseReason.CONNECT_TIMEOUT)
            yield _DETACH_WORK

    def _refused(self, session: CleanSession) -> None:
        self._close(session, CloseReason.APPEND_REFUSED)

    def is_connected(self, client_id: str) -> bool:
        """See ``SessionPort.is_connected``."""
        return self.connections.is_connected(client_id)

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, session: CleanSession, run: MessageRun, wall_ms: int) -> None:
        """See ``SessionPort.publish``: append; who is to receive it is known when it is read."""
        route = self.router.route(run.topic)
        if run.qos == 2:
            self._publish_exactly_once(session, route, run, wall_ms)
        elif route.reserved:
            self._ignore(run)
            session.answer(Answer.PUBACK, run.packet_ids, durable=True)
        elif run.qos:
            self._append(session, route, run, wall_ms, session.owe(Answer.PUBACK, run.packet_ids))
        else:
            self._append(session, route, run, wall_ms, None)

    def _ignore(self, run: MessageRun) -> None:
        """Nobody publishes to the broker's own topics: that is acknowledged and ignored."""
        self.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += run.count

    def _publish_exactly_once(
        self, session: CleanSession, route: Route[CleanSession], run: MessageRun, wall_ms: int
    ) -> None:
        """Append what is not open already; PUBREC after the append (E4)."""
        fitting = self._open_id_limit.fitting(session, run.packet_ids)
        if fitting < run.count:
            if not fitting:
                return
            run = run.only(range(fitting))
        new = session.open_new(run, 0)
        self.counters.duplicates_ignored += run.count - len(new)
        if not new or route.reserved:
            if route.reserved:
                self._ignore(run)
            session.answer(Answer.PUBREC, run.packet_ids, durable=True)
            return
        owed = session.owe(Answer.PUBREC, run.packet_ids)
        fresh = run if len(new) == run.count else run.only(new)
        self._append(session, route, fresh, wall_ms, owed)

    def _append(
        self,
        session: CleanSession,
        route: Route[CleanSession],
        run: MessageRun,
        wall_ms: int,
        owed: Owed | None,
    ) -> None:
        messages, own = self._messages, self.own
        partition = route.partition
        if partition < 0:
            partition = route.partition = messages.partition_of(route.topic)
        if not run.qos and self._rooms.drops(partition, run):
            return
        append, topic, client_id = messages.append_run, run.topic, session.client_id
        if partition in self.reading.stopped:
            append(partition, topic, run, client_id, wall_ms, owed)
        else:
            kept = OwnRun(own, partition, run, session, owed)
            own.keep(kept, append(partition, topic, run, client_id, wall_ms, kept))
        self._rooms.appended(partition, session.link)

    def release(self, session: CleanSession, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.release``."""
        session.release(packet_ids)
        self.budget.left -= len(packet_ids)
        if self._open_id_limit.released(session):
            self._close(session, CloseReason.QUOTA_EXCEEDED)

    def receive(self, session: CleanSession, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.receive``."""
        session.receive(packet_ids)
        self.budget.left -= len(packet_ids)

    def owes_answers(self, session: CleanSession) -> bool:
        """See ``SessionPort.owes_answers``."""
        return session.owes_answers

    # -- subscriptions ---------------------------------------------------------------------------

    def holds_subscribe(self, session: CleanSession) -> bool:
        """See ``SessionPort.holds_subscribe``.

        What was published here before is read back first: else it would be delivered as if it had
        been published after. What others published is as old as it is read.
        """
        link = session.link
        if link is None or session in self._forgiven or not self.own.size:
            self._forgiven.pop(session, None)
            return False
        link.hold()
        self._subscribing.append((self.own.newest, self.connections.now_s, session, link))
        return True

    def _let_subscribe(self, *, since_s: float = -1.0) -> None:
        """Let those go on for which all is read back, and who have waited since before then."""
        waiting = self._subscribing
        oldest = self.own.oldest()
        while waiting and (waiting[0][0] < oldest or waiting[0][1] < since_s):
            _, _, session, link = waiting.popleft()
            if session.link is link:
                self._forgiven[session] = None
                link.resume()

    def subscribe(
        self, session: CleanSession, filters: Sequence[tuple[str, int]]
    ) -> tuple[list[int], str]:
        """See ``SessionPort.subscribe``: routes at once (E4)."""
        codes, refused, _ = self.subscriptions.add(session, filters)
        return codes, refused

    def subscribed(self, session: CleanSession, packet_id: int, codes: Sequence[int]) -> None:
        """See ``SessionPort.subscribed``: SUBACK waits for nothing."""
        link = session.link
        assert link is not None
        link.subscribed(packet_id, codes)
        self.retained.advance(session)

    def unsubscribe(self, session: CleanSession, filters: Sequence[str]) -> None:
        """See ``SessionPort.unsubscribe``."""
        self.subscriptions.remove(session, filters)

    def unsubscribed(self, session: CleanSession, packet_id: int) -> None:
        """See ``SessionPort.unsubscribed``."""
        link = session.link
        assert link is not None
        link.unsubscribed(packet_id)

    def drained(self, session: CleanSession) -> None:
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
        more = bool(self.chores.waiting) and self.chores.work()
        more |= self.connections.work()
        reading, stalls = self.reading, self.stalls
        if len(stalls):
            reading.is_paused = stalls.is_deaf(self.connections.positions)
        more |= reading.work()
        if self.backpressure.overflowing:
            overflowing, self.backpressure.overflowing = self.backpressure.overflowing, {}
            self._give_up_on(overflowing)
        self.backpressure.release_backlog(self._rooms.size)
        if self._subscribing:
            self._let_subscribe()
        if len(stalls):
            stalls.look(reading.positions, self.connections.positions)
        if self._stalls_changed:
            self._stalls_changed = False
            sessions = [*self.connections.sessions.values()]
            self.chores.add(self._stall_each(sessions), len(sessions))
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
        for session in self._open_id_limit.overdue(now_s):
            self._close(session, CloseReason.QUOTA_EXCEEDED)
        self._give_up_on(self.backpressure.overdue(now_s))
        # A partition that cannot be read must not keep anybody from subscribing (E4).
        self._let_subscribe(since_s=now_s - SUBSCRIBE_HOLD_S)

    def _give_up_on(self, sessions: Iterable[CleanSession]) -> None:
        """A subscriber is too slow: its connection ends (E6)."""
        for session in sessions:
            if session.link is not None:
                lost = session.pending_count + len(session.in_flight)
                self.counters.dropped[DropReason.SLOW_CONSUMER] += lost
                self._close(session, CloseReason.SLOW_CONSUMER)

    def _stall(self) -> None:
        """Clients of a partition, mostly of all, have to wait or may go on (E13)."""
        self._stalls_changed = True

    def _stall_each(self, sessions: Sequence[CleanSession]) -> Iterator[int]:
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
        self.overlay.reflected(positions)
        early, self._early = self._early, []
        if self.overlay.is_complete():
            self._reads += early
        else:
            self.chores.add(self._still_early(early), len(early))

    def _still_early(self, reads: Sequence[RetainedRead]) -> Iterator[int]:
        """Keep the reads that somebody still waits for: clients come and go, the table does not."""
        for read in reads:
            if self.needs(read):
                self._early.append(read)
            else:
                self.retained.page(read, [])
            yield 1

    @property
    def retained_lag(self) -> int:
        """Records that were read here and that the table of retained messages does not reflect."""
        return self.overlay.behind(self.reading.positions)

    def take_reads(self) -> list[RetainedRead]:
        """Return what has to be read; each read is answered by a page, once."""
        reads = self._reads[:]
        self._reads.clear()
        return reads

    def needs(self, read: RetainedRead) -> bool:
        """Whether the page that was asked for is still of use: connections come and go."""
        return self.retained.awaits(read)

    def retained_page(
        self, read: RetainedRead, records: Sequence[Record], reflected: Mapping[int, int]
    ) -> None:
        """Bring a page, with up to where each partition was in it (V2)."""
        if self.needs(read) and not self.overlay.is_shown_by(reflected):
            # What is missing in between is kept nowhere: wait for the table.
            self._early.append(read)
        else:
            self.retained.page(read, records)
