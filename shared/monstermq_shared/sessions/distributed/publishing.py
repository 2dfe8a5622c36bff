"""What clients publish, on its way to the log: appended, and kept until it is read back (E7)."""

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.routing import Route, Router
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_publishing import KeptPublishing
from monstermq_shared.sessions.distributed.own_runs import OwnRun, OwnRuns
from monstermq_shared.sessions.distributed.ports import MessageWriter
from monstermq_shared.sessions.distributed.reading import MessageReading
from monstermq_shared.sessions.distributed.rooms import Rooms
from monstermq_shared.sessions.distributed.session import BusSession, Owed
from monstermq_shared.sessions.open_ids import OpenIdLimit
from monstermq_shared.sessions.ports import Answer


class Publishing:
    """Appends runs; who is to receive them is known when they are read.

    Args:
        messages: The log.
        router: Says where a topic's messages go.
        reading: Knows which partitions are read no more.
        own: Keeps what was published here.
        rooms: Holds publishers, and drops what would wait for nothing.
        open_id_limit: How many ids a client may leave open.
        kept: Publishes of kept sessions at QoS 2.
        counters: What is counted.
    """

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        *,
        messages: MessageWriter,
        router: Router[BusSession],
        reading: MessageReading,
        own: OwnRuns,
        rooms: Rooms,
        open_id_limit: OpenIdLimit[BusSession],
        kept: KeptPublishing,
        counters: Counters,
    ) -> None:
        self._messages = messages
        self._router = router
        self._reading = reading
        self._own = own
        self._rooms = rooms
        self._open_id_limit = open_id_limit
        self._kept = kept
        self._counters = counters

    def publish(self, session: BusSession, run: MessageRun, wall_ms: int) -> None:
        """See ``SessionPort.publish``: append; who is to receive it is known when it is read."""
        route = self._router.route(run.topic)
        if run.qos == 2 and isinstance(session, KeptSession):
            self._publish_kept(session, route, run, wall_ms)
        elif run.qos == 2:
            self._publish_exactly_once(session, route, run, wall_ms)
        elif route.reserved:
            self._ignore(run)
            session.answer(Answer.PUBACK, run.packet_ids, durable=True)
        elif run.qos:
            self.append(session, route, run, wall_ms, session.owe(Answer.PUBACK, run.packet_ids))
        else:
            self.append(session, route, run, wall_ms, None)

    def _ignore(self, run: MessageRun) -> None:
        """Nobody publishes to the broker's own topics: that is acknowledged and ignored."""
        self._counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += run.count

    def _publish_kept(
        self, session: KeptSession, route: Route[BusSession], run: MessageRun, wall_ms: int
    ) -> None:
        """E8."""
        fitting = self._open_id_limit.fitting(session, run.packet_ids)
        if not fitting:
            return
        if fitting < run.count:
            run = run.only(range(fitting))
        if route.reserved:
            self._ignore(run)
            session.answer(Answer.PUBREC, run.packet_ids, durable=True)
        elif self._partition_of(route) in self._reading.stopped:
            # R4: it would never be read back, and so never be acknowledged.
            session.append_refused()
        else:
            self._kept.publish(session, route, run, wall_ms)

    def _partition_of(self, route: Route[BusSession]) -> int:
        if route.partition < 0:
            route.partition = self._messages.partition_of(route.topic)
        return route.partition

    def _publish_exactly_once(
        self, session: BusSession, route: Route[BusSession], run: MessageRun, wall_ms: int
    ) -> None:
        """Append what is not open already; PUBREC after the append (E4)."""
        fitting = self._open_id_limit.fitting(session, run.packet_ids)
        if fitting < run.count:
            if not fitting:
                return
            run = run.only(range(fitting))
        new = session.open_new(run, 0)
        self._counters.duplicates_ignored += run.count - len(new)
        if not new or route.reserved:
            if route.reserved:
                self._ignore(run)
            session.answer(Answer.PUBREC, run.packet_ids, durable=True)
            return
        owed = session.owe(Answer.PUBREC, run.packet_ids)
        fresh = run if len(new) == run.count else run.only(new)
        self.append(session, route, fresh, wall_ms, owed)

    def append(
        self,
        session: BusSession,
        route: Route[BusSession],
        run: MessageRun,
        wall_ms: int,
        owed: Owed | None,
    ) -> None:
        """Append a run, and keep it until it is read back."""
        messages, own = self._messages, self._own
        partition = self._partition_of(route) if route.partition < 0 else route.partition
        if not run.qos and self._rooms.drops(partition, run):
            return
        append, topic, client_id = messages.append_run, run.topic, session.client_id
        if partition in self._reading.stopped:
            append(partition, topic, run, client_id, wall_ms, owed)
        else:
            kept = OwnRun(own, partition, run, session, owed)
            own.keep(kept, append(partition, topic, run, client_id, wall_ms, kept))
        self._rooms.appended(partition, session.link)
