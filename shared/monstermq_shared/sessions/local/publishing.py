"""Publishing: a run gets offsets, becomes records if a view wants it, goes to its targets."""

from collections.abc import Sequence

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.routing import Router
from monstermq_shared.sessions.local.backpressure import Backpressure
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.retained import RetainedMessages
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Link

RECORD_OVERHEAD = 300
"""Bytes a record and its place in a turn take beside topic and payload, about."""


Origin = tuple[str, str, int]
"""Who published (client id), on which topic, when (microseconds UTC)."""


class Publisher:
    """The hot path from a publisher to its subscribers, a run at a time (ARCHITECTURE 11.1)."""

    __slots__ = ("_backpressure", "_counters", "_journal", "_retained", "_router")

    def __init__(
        self,
        router: Router[Session],
        journal: Journal,
        retained: RetainedMessages,
        backpressure: Backpressure,
        counters: Counters,
    ) -> None:
        self._router = router
        self._journal = journal
        self._retained = retained
        self._backpressure = backpressure
        self._counters = counters

    def publish(self, client_id: str, run: MessageRun, wall_us: int, link: Link | None) -> bool:
        """Append a run and route it; return whether its acknowledgement waits for the commit.

        Args:
            client_id: The publisher.
            run: What it says.
            wall_us: When that came.
            link: The publisher's connection, to be held if it comes too fast; None for a will.

        Raises:
            InvalidTopic: The topic is no topic name.
        """
        route = self._router.route(run.topic)
        if route.reserved:
            # A client has no say in the broker's own topics: acknowledged and ignored.
            self._counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += run.count
            return False
        journal = self._journal
        run.first_offset = journal.log.allot(run.count)
        origin = (client_id, route.topic, wall_us)
        records = None
        # The retained view wants what is to be retained, whoever else does.
        if route.wanted or run.retain:
            records = _records(run, origin, retained=run.retain)
            journal.append(records, run.size + RECORD_OVERHEAD * run.count)
            if run.retain and self._retained.replays:
                self._retained.note(route.topic)
        elif journal.log.tap is not None:
            # No view's turn is the longer for it: a tap holds nobody back.
            journal.log.tap(_records(run, origin, retained=False))
        durable = route.durable_retained if run.retain else route.durable
        if route.targets and self._deliver(run, origin, route.targets, link, records):
            durable = True
            journal.count(run.size + RECORD_OVERHEAD * run.count)
        if journal.backlog_size > self._backpressure.backlog_max and (records or durable):
            self._backpressure.hold_for_backlog(link)
        return durable

    def _deliver(
        self,
        run: MessageRun,
        origin: Origin,
        targets: Sequence[tuple[Session, int]],
        link: Link | None,
        records: Sequence[Record] | None,
    ) -> bool:
        """Deliver a run to each target; return whether that made queue rows."""
        if link is not None and link.is_bridge:
            # A bridge that subscribes to what it publishes would send it round for ever.
            targets = [target for target in targets if target[0].link is not link]
        made_rows = False
        # A live copy does not carry the publisher's retain flag, nor does its row.
        queued = None if run.retain else records
        published = run.qos
        for session, granted in targets:
            qos = min(published, granted)
            receiver = session.link
            if qos == 0:
                if receiver is not None:
                    receiver.forward(run)
                continue
            if isinstance(session, PersistentSession):
                if queued is None:
                    queued = _records(run, origin, retained=False)
                made_rows |= session.enqueue(run, qos, queued)
            elif receiver is not None:
                session.offer(run, qos)
            if session.pending_count:
                self._backpressure.check_pending(session, link)
        return made_rows


def _records(run: MessageRun, origin: Origin, *, retained: bool) -> list[Record]:
    client_id, topic, wall_us = origin
    qos = run.qos
    offset = run.first_offset
    if run.count == 1:
        return [Record(topic, run.payloads[0], qos, retained, client_id, wall_us, offset)]
    return [
        Record(topic, payload, qos, retained, client_id, wall_us, position)
        for position, payload in enumerate(run.payloads, offset)
    ]
