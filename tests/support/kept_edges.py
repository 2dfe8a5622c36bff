"""Edges with kept sessions on one bus in memory, and the rows of their workers.

The rows of sessions are a fold of the log as far as a test lets their worker come. The queues owe
nobody anything here: what they hold is the simulation's (``tests/simulation/kept``).
"""

from collections.abc import Iterator
from dataclasses import replace

from tests.support.edges import LATENESS_MS, SETTINGS, Bus, Edge
from tests.support.links import Connack, RecordingLink

from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Claim, Detach, Fact, Open, Subs
from monstermq_shared.bus.ring import unread
from monstermq_shared.bus.runs import Runs
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.distributed.settings import DistributedSettings
from monstermq_shared.sessions.ports import AttachRequest
from monstermq_shared.stores.queues import KeptRow, KeptRows, QueuePage

KEPT = replace(SETTINGS, protocol_version=2)
"""What an edge is told that serves kept sessions."""

LIVE = (2**62, 2**62)
"""The cut of a client whose rows are newer than any marker of it."""


class KeptBus(Bus):
    """The logs, and how far the worker of sessions has come.

    Attributes:
        reflected: Partition of the sessions log -> up to where its rows are.
    """

    def __init__(self, partitions: int = 3, sessions: int = 2) -> None:
        super().__init__(partitions, sessions)
        self.reflected = dict.fromkeys(range(sessions), 0)

    def project_sessions(self) -> None:
        """Let the rows show all there is."""
        self.reflected = self.sessions.ends()

    def rows(self, partition: int, client_ids: list[str]) -> KeptRows:
        """Return the rows of clients."""
        upto = self.reflected[partition]
        states: dict[str, SessionState] = {}
        for offset, fact, time_ms in facts_in(self, "sessions", partition):
            if offset < upto and isinstance(fact, Claim | Detach | Subs | Open):
                states.setdefault(fact.client_id, SessionState()).take(fact, offset, time_ms)
        found = {name: _row(states[name]) for name in client_ids if name in states}
        return KeptRows(Mark(upto, upto), found)


def _row(state: SessionState) -> KeptRow:
    return KeptRow(
        epoch=state.epoch,
        incarnation=state.incarnation,
        expiry_s=state.expiry_s,
        attached=state.attached,
        subscriptions={name: (qos, options) for name, qos, options in state.subscriptions},
        in_flight=state.in_flight,
        sent=state.sent,
    )


def facts_in(bus: Bus, log: str, partition: int) -> Iterator[tuple[int, Fact, int]]:
    """Yield (offset, fact, time in ms) of what stands in a partition, doubles left out."""
    entries = unread(getattr(bus, log).entries[partition], Runs(LATENESS_MS))
    for entry in entries:
        if entry.kind:
            for fact in decode_facts(entry.record().payload):
                yield entry.offset, fact, entry.time_ms


class KeptEdge(Edge):
    """An edge that serves kept sessions."""

    bus: KeptBus

    def answer_rows(self) -> int:
        """Answer what is asked of the database; return how much that was."""
        engine = self.engine
        count = 0
        for partition, client_ids in engine.take_row_reads().items():
            engine.kept_rows(partition, client_ids, self.bus.rows(partition, client_ids))
            count += 1
        if engine.awaits_queues:
            engine.queues_reflected(self.bus.messages.ends())
        if asks := engine.take_asks():
            engine.queue_pages(asks, [QueuePage((), LIVE, True) for _ in asks])
        return count + len(asks)

    def settle(self) -> None:
        """See ``Edge``."""
        busy = True
        while busy:
            super().settle()
            busy = bool(self.answer_rows())

    def attach_kept(self, client_id: str, *, will: Will | None = None) -> RecordingLink:
        """Connect with clean session 0; the claim has not landed."""
        link = RecordingLink()
        request = AttachRequest(client_id=client_id, clean=False, will=will, information={})
        link.session = self.engine.attach(link, request, self.wall_ms)
        return link

    def connect_kept(self, client_id: str, *filters: tuple[str, int]) -> RecordingLink:
        """Connect, subscribe, and see it all through; what was said is forgotten."""
        link = self.attach_kept(client_id)
        self.settle()
        if filters:
            self.subscribe(link, 1, *filters)
            self.settle()
        said = link.take()
        assert isinstance(said[0], Connack)
        return link

    def claimed(self, client_id: str) -> RecordingLink:
        """Connect as far as its markers are appended, and have not landed."""
        link = self.attach_kept(client_id)
        partition = link.session.partition
        self.engine.appended(self.facts.land(partition))
        self.read("sessions")
        self.work()
        self.answer_rows()
        self.work()
        return link

    def land_markers(self, partition: int) -> None:
        """Let what was appended to a partition land and be read here."""
        while self.messages.pending[partition]:
            self.engine.appended(self.messages.land(partition))
        self.read("messages")
        self.work()

    def facts_of(self, log: str = "sessions") -> list[Fact]:
        """Return all facts that stand in a log."""
        partitions = range(len(getattr(self.bus, log).entries))
        return [fact for p in partitions for _, fact, _ in facts_in(self.bus, log, p)]


def kept_edges(
    using: DistributedSettings = KEPT,
) -> tuple[KeptBus, KeptEdge, KeptEdge]:
    """Return a bus and two edges that serve."""
    bus = KeptBus()
    first, second = (KeptEdge(bus, using) for _ in range(2))
    first.start()
    second.start()
    return bus, first, second
