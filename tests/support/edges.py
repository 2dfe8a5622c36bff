"""Edges on one bus in memory, one step at a time: what lands, what is read, and when.

Nothing happens by itself. A test decides which appends land, in which order over the partitions,
and which are doubled or refused; the reading half drops doubles as every reader does (R1).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.engine import HOLD, run_of
from tests.support.links import RecordingLink

from monstermq_shared.budget import Budget
from monstermq_shared.bus.control import encode_facts, kind_of
from monstermq_shared.bus.facts import Claim, Fact
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.ring import RingEntry, unread
from monstermq_shared.bus.runs import Runs
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.kafka.murmur2 import partition_of
from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.records import (
    CONTROL_TOPIC,
    SESSION_TOPIC,
    ControlRecord,
    Record,
    StampedRecord,
)
from monstermq_shared.sessions.distributed.engine import DistributedEngine
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.distributed.settings import DistributedSettings, LogBegin
from monstermq_shared.sessions.ports import AttachRequest
from monstermq_shared.topics import matches

LATENESS_MS = 900_000
LEASE_S = 9.0

SETTINGS = DistributedSettings(
    in_flight_max=10,
    open_ids_max=100,
    subscriptions_max=100,
    topic_levels_max=10,
    route_cache_max=100,
    hold=HOLD,
    overlay_size_max=1_000_000,
    connect_timeout_s=60.0,
    lease_s=LEASE_S,
    lateness_ms=LATENESS_MS,
)


class SimLog:
    """One log: what stands in its partitions, doubles included."""

    def __init__(self, partitions: int) -> None:
        self.entries: list[list[RingEntry]] = [[] for _ in range(partitions)]

    def write(self, partition: int, records: Iterable[Record], writer: bytes, first: int) -> None:
        """Append records whose sequences count up from ``first``."""
        entries = self.entries[partition]
        for sequence, record in enumerate(records, first):
            entries.append(RingEntry(record.at(len(entries)), writer, sequence))

    def ends(self) -> dict[int, int]:
        """Return the ends of all partitions."""
        return {partition: len(entries) for partition, entries in enumerate(self.entries)}


@dataclass(slots=True)
class Pending:
    """Records that were appended and have not landed."""

    records: list[Record]
    facts: list[Fact] | None
    first: int
    tickets: list[Any] = field(default_factory=list)


class SimWriter:
    """Implements ``MessageWriter`` and ``FactWriter``: per partition, appends land in order.

    Attributes:
        full: Partitions that take no more.
        stuck: Those of them that have taken nothing for some time.
        pending: What has not landed, by partition.
    """

    def __init__(self, run: bytes, log: SimLog) -> None:
        self.run = run
        self.log = log
        self.partitions = len(log.entries)
        self.full: set[int] = set()
        self.stuck: set[int] = set()
        self.pending: list[deque[Pending]] = [deque() for _ in log.entries]
        self._sequences = [0] * self.partitions

    def partition_of(self, key: str) -> int:
        """See ``LogWriter``."""
        return partition_of(key.encode(), self.partitions)

    def is_full(self, partition: int) -> bool:
        """See ``LogWriter``."""
        return partition in self.full

    def is_stuck(self, partition: int) -> bool:
        """See ``MessageWriter``."""
        return partition in self.stuck

    def append_run(
        self,
        partition: int,
        topic: bytes,
        run: MessageRun,
        client_id: str,
        wall_ms: int,
        ticket: object,
    ) -> int:
        """See ``MessageWriter``."""
        records = [
            Record(topic.decode(), payload, run.qos, run.retain, client_id, wall_ms, 0)
            for payload in run.payloads
        ]
        if run.epoch is not None:
            stamps = zip(records, run.packet_ids, strict=True)
            records = [StampedRecord(record, at, run.epoch) for record, at in stamps]
        return self._add(partition, Pending(records, None, 0), ticket).first

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: object
    ) -> tuple[int, int]:
        """See ``FactWriter``: facts share a record until it lands, but two claims of one client."""
        waiting = self.pending[partition]
        if waiting and _fit(waiting[-1].facts, facts):
            last = waiting[-1]
            assert last.facts is not None
        else:
            last = self._add(partition, Pending([], [], 0), None, 1)
        assert last.facts is not None
        index = len(last.facts)
        last.facts += facts
        text = encode_facts(last.facts).encode()
        kind = kind_of(facts[0])
        topic = SESSION_TOPIC if kind in {Kind.FACTS, Kind.LEASE} else CONTROL_TOPIC
        last.records = [ControlRecord(topic, text, wall_ms, 0, kind)]
        last.tickets.append(ticket)
        return last.first, index

    def _add(
        self, partition: int, pending: Pending, ticket: object, count: int | None = None
    ) -> Pending:
        pending.first = self._sequences[partition]
        self._sequences[partition] += len(pending.records) if count is None else count
        if ticket is not None:
            pending.tickets.append(ticket)
        self.pending[partition].append(pending)
        return pending

    def land(self, partition: int, *, doubled: bool = False) -> list[Any]:
        """Let the first append of a partition land; return its tickets."""
        pending = self.pending[partition].popleft()
        for _ in range(1 + doubled):
            self.log.write(partition, pending.records, self.run, pending.first)
        return pending.tickets

    def refuse(self, partition: int, *, stands: bool = False) -> list[Any]:
        """Refuse the first append of a partition, though it may stand; return its tickets."""
        pending = self.pending[partition].popleft()
        if stands:
            self.log.write(partition, pending.records, self.run, pending.first)
        return pending.tickets


def _fit(there: list[Fact] | None, new: Sequence[Fact]) -> bool:
    """Whether facts may be added to the record of others."""
    if not there or kind_of(there[0]) != kind_of(new[0]):
        return False
    claimed = {fact.client_id for fact in there if isinstance(fact, Claim)}
    return not any(isinstance(fact, Claim) and fact.client_id in claimed for fact in new)


class Bus:
    """Both logs, and the table of what is retained.

    Attributes:
        shown: Partition -> up to where the table shows the log.
    """

    def __init__(self, partitions: int = 3, sessions: int = 2) -> None:
        self.messages = SimLog(partitions)
        self.sessions = SimLog(sessions)
        self.shown = dict.fromkeys(range(partitions), 0)
        self.table: dict[str, Record] = {}
        self._runs = [Runs(LATENESS_MS) for _ in range(partitions)]
        self._edges = 0

    def new_run(self) -> bytes:
        """Return the run of a new process."""
        self._edges += 1
        return b"edge%04d" % self._edges

    def project(self, partition: int | None = None) -> None:
        """Let the table show all of a partition, or all partitions."""
        for at in self.shown if partition is None else (partition,):
            entries = self.messages.entries[at][self.shown[at] :]
            self.shown[at] += len(entries)
            for entry in unread(entries, self._runs[at]):
                record = entry.record()
                if record.retained and record.payload:
                    self.table[record.topic] = record
                elif record.retained:
                    self.table.pop(record.topic, None)


class Edge:
    """One edge: an engine, and how far it has read.

    Attributes:
        engine: The engine.
        messages: Its writer of messages.
        facts: Its writer of session facts.
        now_s: Its clock.
    """

    def __init__(self, bus: Bus, using: DistributedSettings = SETTINGS) -> None:
        self.bus = bus
        run = bus.new_run()
        self.messages = SimWriter(run, bus.messages)
        self.facts = SimWriter(run, bus.sessions)
        self.counters = Counters()
        self.budget = Budget()
        self.now_s = 0.0
        self.wall_ms = 1_000_000
        self.system_values: dict[str, bytes] = {}
        begin = LogBegin(
            messages=dict(bus.shown),
            queues=dict(bus.shown),
            sessions=dict.fromkeys(range(self.facts.partitions), 0),
            fences=FenceTable(self.messages.partitions, LATENESS_MS),
            inbound=InboundIds(),
        )
        self.engine = DistributedEngine(
            self.messages,
            self.facts,
            using,
            self.counters,
            system_values=lambda _: [*self.system_values.items()],
            budget=self.budget,
        )
        self.engine.begin(begin)
        self._read = {"messages": dict(begin.messages), "sessions": dict(begin.sessions)}
        self._runs = {
            "messages": [Runs(LATENESS_MS) for _ in bus.messages.entries],
            "sessions": [Runs(LATENESS_MS) for _ in bus.sessions.entries],
        }

    # -- one step --------------------------------------------------------------------------------

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.wall_ms += int(seconds * 1000)
        self.engine.tick(self.now_s, self.wall_ms)

    def land(self) -> int:
        """Let everything land; return how much that was."""
        count = 0
        for writer in (self.messages, self.facts):
            for partition, pending in enumerate(writer.pending):
                while pending:
                    self.engine.appended(writer.land(partition))
                    count += 1
        return count

    def read_some(self, log: str, partition: int, limit: int | None = None) -> int:
        """Read what stands next in a partition; return how many offsets that were."""
        entries = getattr(self.bus, log).entries[partition]
        first = self._read[log][partition]
        upto = len(entries) if limit is None else min(first + limit, len(entries))
        if upto == first:
            return 0
        new = unread(entries[first:upto], self._runs[log][partition])
        self._read[log][partition] = upto
        batch = RecordBatch(partition, first, upto, new)
        if log == "messages":
            self.engine.messages_read(batch)
        else:
            self.engine.facts_read(batch)
        return upto - first

    def read(self, log: str | None = None) -> int:
        """Read all there is of one log, or both; return how many offsets that were."""
        logs = ("sessions", "messages") if log is None else (log,)
        return sum(
            self.read_some(name, partition) for name in logs for partition in self._read[name]
        )

    def work(self) -> None:
        """Do all that is done in pieces, and ask for the ends where they are wanted."""
        while True:
            while self.engine.work():
                pass
            if not self.engine.stalls.asks_ends():
                return
            self.engine.ends(self.bus.messages.ends(), self.bus.sessions.ends())

    def answer_reads(self) -> int:
        """Answer the reads that were asked for; return how many there were."""
        self.engine.reflected(self.bus.shown)
        reads = self.engine.take_reads()
        for read in reads:
            found = sorted(
                (record for topic, record in self.bus.table.items() if topic > read.after),
                key=lambda record: record.topic,
            )
            page = [r for r in found if matches(read.topic_filter, r.topic)][: read.limit]
            self.engine.retained_page(read, page, dict(self.bus.shown))
        return len(reads)

    def settle(self) -> None:
        """Land, read, work and answer until there is nothing left to do."""
        busy = True
        while busy:
            self.work()
            busy = bool(self.land() + self.read())
            busy |= bool(self.answer_reads())

    def start(self) -> "Edge":
        """Begin to serve."""
        self.tick()
        self.settle()
        assert not self.engine.unready()
        return self

    # -- clients ---------------------------------------------------------------------------------

    def attach(
        self, client_id: str, *, will: Will | None = None, link: RecordingLink | None = None
    ) -> RecordingLink:
        """Connect; the claim has not landed."""
        link = link or RecordingLink()
        request = AttachRequest(client_id=client_id, clean=True, will=will, information={})
        link.session = self.engine.attach(link, request, self.wall_ms)
        return link

    def connect(
        self, client_id: str, *filters: tuple[str, int], will: Will | None = None
    ) -> RecordingLink:
        """Connect, subscribe, and see it all through; what was said is forgotten."""
        link = self.attach(client_id, will=will)
        self.settle()
        if filters:
            self.subscribe(link, 1, *filters)
            self.settle()
        link.take()
        return link

    def subscribe(
        self, link: RecordingLink, packet_id: int, *filters: tuple[str, int]
    ) -> Sequence[int]:
        """Do what a SUBSCRIBE causes."""
        codes, _ = self.engine.subscribe(link.session, filters)
        self.engine.subscribed(link.session, packet_id, codes)
        return codes

    def publish(
        self,
        link: RecordingLink,
        topic: str,
        *payloads: bytes,
        qos: int = 1,
        first_id: int = 1,
        retain: bool = False,
    ) -> None:
        """Publish a run; nothing has landed."""
        run = run_of(topic, payloads, qos, first_id, retain=retain)
        self.engine.publish(link.session, run, self.wall_ms)

    def drop(self, link: RecordingLink, reason: CloseReason = CloseReason.TRANSPORT_CLOSED) -> None:
        """End the connection."""
        self.engine.detach(link.session, reason, self.wall_ms)

    def session(self, client_id: str) -> BusSession:
        """Return a connected client's session."""
        return self.engine.connections.sessions[client_id]


def two_edges(using: DistributedSettings = SETTINGS) -> tuple[Bus, Edge, Edge]:
    """Return a bus and two edges that serve."""
    bus = Bus()
    return bus, Edge(bus, using).start(), Edge(bus, using).start()


def with_hold(**changes: int) -> DistributedSettings:
    """Return settings that hold publishers otherwise."""
    return replace(SETTINGS, hold=replace(HOLD, **changes))


def topic_in(writer: SimWriter, partition: int, prefix: str = "t") -> str:
    """Return a topic whose messages go to this partition."""
    return next(
        topic
        for topic in (f"{prefix}/{number}" for number in range(10_000))
        if writer.partition_of(topic) == partition
    )


def write(edge: Edge, topic: str, *records: Record) -> None:
    """Let another process append records to a topic's partition."""
    log = edge.bus.messages
    partition = edge.messages.partition_of(topic)
    log.write(partition, records, b"stranger", len(log.entries[partition]))


def strange_message(topic: str, payload: bytes, qos: int = 1) -> Record:
    """Return a message of another process."""
    return Record(topic, payload, qos, False, "stranger", 1_000_000, 0)
