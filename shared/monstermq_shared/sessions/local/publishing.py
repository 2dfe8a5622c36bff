"""Publishing: a run gets offsets, becomes records if a view wants it, goes to its targets.

A run for very many targets is handed to them in pieces, between which the event loop has its turn.
Until the last one has it nothing else may reach the engine: its sessions, offsets and turns are as
if the run had been handed to all at once.
"""

from collections.abc import Sequence
from typing import Final

from monstermq_shared.budget import Budget
from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.routing import Route, Router, Targets
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.fan_out import Deliverer, FanOut, without_own
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Source
from monstermq_shared.sessions.retained import RetainedMessages

RECORD_OVERHEAD: Final = 300
"""Bytes a record and its place in a turn take beside topic and payload, about."""


Origin = tuple[str, str, int]
"""Who published (client id), on which topic, when (milliseconds UTC)."""


class Publisher(Deliverer[Session]):
    """The hot path from a publisher to its subscribers, a run at a time (ARCHITECTURE 11.1)."""

    __slots__ = ("_counters", "_journal", "_retained", "_router")

    def __init__(
        self,
        router: Router[Session],
        journal: Journal,
        retained: RetainedMessages[Session],
        backpressure: Backpressure[Session],
        budget: Budget,
        counters: Counters,
    ) -> None:
        super().__init__(backpressure, budget)
        self._router = router
        self._journal = journal
        self._retained = retained
        self._counters = counters

    def publish(self, client_id: str, run: MessageRun, wall_ms: int, source: Source | None) -> bool:
        """Append a run and route it; return whether its acknowledgement waits for the commit.

        It waits for ``fan_out`` too, if that is set then, and perhaps for the commit because of it.

        Args:
            client_id: The publisher.
            run: What it says.
            wall_ms: When that came.
            source: Where that comes from, to be held if it comes too fast; None for a will.

        Raises:
            InvalidTopic: The topic is not a valid topic name.
        """
        route = self._router.route(run.topic)
        if route.reserved:
            # Nobody publishes to the broker's own topics: that is acknowledged and ignored.
            self._counters.dropped[DropReason.TOPIC_NOT_WRITABLE] += run.count
            return False
        journal = self._journal
        run.first_offset = journal.log.allot(run.count)
        origin = (client_id, route.topic, wall_ms)
        records = None
        # The retained view wants what is to be retained, whoever else does.
        if route.wanted or run.retain:
            records = self._keep(route, run, origin, source)
        elif journal.log.tap is not None:
            # No view's turn is the longer for it: a tap holds nobody back.
            journal.log.tap(_records(run, origin, retained=False))
        durable = route.durable_retained if run.retain else route.durable
        targets = route.targets
        if targets:
            targets = without_own(targets, source)
            # A live copy does not carry the publisher's retain flag, nor does its row.
            rows = None if run.retain else records
            deliveries = len(targets) * run.count if run.qos else len(targets)
            if deliveries > 1 and self._is_many(deliveries, len(targets)):
                self._begin_fan_out(run, origin, targets, source, rows)
            elif self._deliver(run, origin, targets, source, rows):
                durable = True
        if journal.backlog_size > self._backpressure.backlog_max and (records or durable):
            self._backpressure.hold_for_backlog(source)
        return durable

    def _keep(
        self, route: Route[Session], run: MessageRun, origin: Origin, source: Source | None
    ) -> list[Record]:
        """Make the records that the views want."""
        records = _records(run, origin, retained=run.retain)
        self._budget.left -= 2 * run.count
        self._journal.append(records, run.size + RECORD_OVERHEAD * run.count)
        followers = route.followers_retained if run.retain else route.followers
        if followers:
            self._backpressure.hold_for_followers(followers, source)
        if run.retain and self._retained.replays:
            self._retained.note(route.topic)
        return records

    def _begin_fan_out(
        self,
        run: MessageRun,
        origin: Origin,
        targets: Targets[Session],
        source: Source | None,
        rows: Sequence[Record] | None,
    ) -> None:
        """Hand a run to the first of many."""
        if run.qos and rows is None:
            rows = _records(run, origin, retained=False)
        self.fan_out = FanOut(run, targets, source, rows)
        self._budget.busy = True
        self._budget.left = 0
        self.go_on()

    def go_on(self) -> None:
        """Hand the run of ``fan_out`` to the next of its targets."""
        fan_out = self.fan_out
        assert fan_out is not None
        targets = fan_out.next_targets(self.deliveries_max)
        origin = ("", "", 0)  # for records, which are there already
        fan_out.durable |= self._deliver(fan_out.run, origin, targets, fan_out.source, fan_out.rows)
        if fan_out.is_over:
            self.fan_out = None
            self._budget.busy = False

    def _deliver(
        self,
        run: MessageRun,
        origin: Origin,
        targets: Targets[Session],
        source: Source | None,
        rows: Sequence[Record] | None,
    ) -> bool:
        """Deliver a run to each target; return whether that made queue rows."""
        made_rows = False
        published = run.qos
        for session, granted in targets:
            qos = granted if granted < published else published  # noqa: FURB136 - a call is dear here
            receiver = session.link
            if qos == 0:
                if receiver is not None:
                    receiver.forward(run)
                continue
            if isinstance(session, PersistentSession):
                if rows is None:
                    rows = _records(run, origin, retained=False)
                made_rows |= session.enqueue(run, qos, rows)
            elif receiver is not None:
                session.offer(run, qos)
            if session.pending_count:
                self._backpressure.check_pending(session, source)
        if made_rows:
            self._journal.count(run.size + RECORD_OVERHEAD * run.count)
        return made_rows


def _records(run: MessageRun, origin: Origin, *, retained: bool) -> list[Record]:
    client_id, topic, wall_ms = origin
    qos = run.qos
    offset = run.first_offset
    if run.count == 1:
        return [Record(topic, run.payloads[0], qos, retained, client_id, wall_ms, offset)]
    return [
        Record(topic, payload, qos, retained, client_id, wall_ms, position)
        for position, payload in enumerate(run.payloads, offset)
    ]
