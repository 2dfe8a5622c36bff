"""Both logs in memory: what stands in them, and what is on its way there.

An append lands when the scheduler says so, long after its writer died perhaps, twice perhaps, or
never. Per partition and writer, appends land in the order they were made (R1, the writer's half).
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from monstermq_shared.bus.control import encode_facts, kind_of
from monstermq_shared.bus.facts import Claim, Fact
from monstermq_shared.bus.header import KIND_SHIFT, Kind, flags_of
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import (
    CONTROL_TOPIC,
    SESSION_TOPIC,
    ControlRecord,
    Record,
    StampedRecord,
    size_of,
)

SHARED = 0.3
"""How often a fact goes into the record of the one before it, where it may."""


class LogEntry:
    """A record as its readers meet it; see ``bus.ports.Entry``.

    Attributes:
        facts: What it says, if it is a control record.
        landed: The step at which it came to stand there.
    """

    __slots__ = (
        "_record",
        "facts",
        "flags",
        "key",
        "kind",
        "landed",
        "offset",
        "sequence",
        "size",
        "time_ms",
        "topic",
        "writer",
    )

    foreign = False

    def __init__(
        self, record: Record, writer: bytes, sequence: int, facts: Sequence[Fact], landed: int
    ) -> None:
        self._record = record
        self.facts = facts
        self.flags = flags_of(record)
        self.key = record.topic
        self.kind = self.flags >> KIND_SHIFT
        self.landed = landed
        self.offset = record.offset
        self.sequence = sequence
        self.size = size_of(record)
        self.time_ms = record.timestamp_ms
        self.topic = record.topic.encode()
        self.writer = writer

    @property
    def stamp(self) -> Stamp:
        """See ``Entry.stamp``."""
        return Stamp(self.writer, self.sequence)

    def record(self) -> Record:
        """Return the record; it never has to be decoded."""
        return self._record


@dataclass(slots=True)
class Pending:
    """Records that were appended and have not landed: those of one run, or one with facts.

    Attributes:
        first: The sequence of the first; the others follow without a gap.
        tickets: What their writer is told about.
    """

    records: list[Record]
    facts: list[Fact]
    first: int
    tickets: list[Any] = field(default_factory=list)


class Log:
    """One log.

    Attributes:
        name: ``messages`` or ``sessions``.
        partitions: What stands in each of them, doubles included.
    """

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.partitions: list[list[LogEntry]] = [[] for _ in range(partitions)]

    def write(self, partition: int, pending: Pending, run: bytes, step: int) -> list[LogEntry]:
        """Let records come to stand in a partition; return them."""
        entries = self.partitions[partition]
        written: list[LogEntry] = []
        for sequence, record in enumerate(pending.records, pending.first):
            placed = record.at(len(entries))
            written.append(LogEntry(placed, run, sequence, pending.facts, step))
            entries.append(written[-1])
        return written

    def ends(self) -> dict[int, int]:
        """Return the ends of all partitions."""
        return {partition: len(entries) for partition, entries in enumerate(self.partitions)}


@dataclass(slots=True)
class Queue:
    """What one writer has on its way to one partition.

    Attributes:
        writer: Whose it is; None once that is dead.
    """

    log: Log
    partition: int
    run: bytes
    writer: "SimWriter | None"
    pending: deque[Pending] = field(default_factory=deque)
    next_sequence: int = 0

    def add(self, pending: Pending) -> Pending:
        """Append; the sequences are the next ones."""
        pending.first = self.next_sequence
        self.next_sequence += len(pending.records)
        self.pending.append(pending)
        return pending


class SimWriter:
    """What one process appends to one log: implements ``MessageWriter`` and ``FactWriter``.

    Attributes:
        run: What its records carry.
        partitions: How many.
        queues: By partition.
        landed: What has landed, and nobody was told of.
    """

    def __init__(self, run: bytes, log: Log, chance: random.Random) -> None:
        self.run = run
        self.partitions = len(log.partitions)
        self.queues = [Queue(log, p, run, self) for p in range(self.partitions)]
        self.landed: deque[Pending] = deque()
        self._log = log
        self._chance = chance

    def partition_of(self, key: str) -> int:
        """See ``LogWriter``; topics end with their number."""
        return partition_of(key, self.partitions)

    def is_full(self, partition: int) -> bool:
        """See ``LogWriter``."""
        return False

    def is_stuck(self, partition: int) -> bool:
        """See ``MessageWriter``."""
        return False

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
        records: list[Record] = []
        for index, payload in enumerate(run.payloads):
            record = Record(topic.decode(), payload, run.qos, run.retain, client_id, wall_ms, 0)
            if run.epoch is not None:
                record = StampedRecord(record, run.packet_ids[index], run.epoch)
            records.append(record)
        pending = self.queues[partition].add(Pending(records, [], 0))
        if ticket is not None:
            pending.tickets.append(ticket)
        return pending.first

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: object
    ) -> tuple[int, int]:
        """See ``FactWriter``: neighbours may share a record until it lands."""
        waiting = self.queues[partition].pending
        if waiting and _fit(waiting[-1].facts, facts) and self._chance.random() < SHARED:
            pending = waiting[-1]
        else:
            pending = self.queues[partition].add(Pending([_NO_RECORD], [], 0))
        index = len(pending.facts)
        pending.facts += facts
        pending.records = [control_record(self._log.name, pending.facts, wall_ms)]
        pending.tickets.append(ticket)
        return pending.first, index

    def alive(self) -> Iterator[Queue]:
        """Yield the queues that hold something."""
        return (queue for queue in self.queues if queue.pending)


_NO_RECORD = Record("", b"", 0, False, "", 0, 0)


def _fit(there: Sequence[Fact], new: Sequence[Fact]) -> bool:
    """Whether facts may be added to the record of others: no two claims of one client in one."""
    if not there or (kind_of(there[0]) == Kind.LEASE) != (kind_of(new[0]) == Kind.LEASE):
        return False
    claimed = {fact.client_id for fact in there if isinstance(fact, Claim)}
    return not any(isinstance(fact, Claim) and fact.client_id in claimed for fact in new)


def control_record(log: str, facts: Iterable[Fact], wall_ms: int) -> ControlRecord:
    """Return the record that facts stand in."""
    facts = [*facts]
    topic = SESSION_TOPIC if log == "sessions" else CONTROL_TOPIC
    kinds = {kind_of(fact) for fact in facts} - {Kind.ACKS}
    kind = kinds.pop() if kinds else Kind.ACKS
    return ControlRecord(topic, encode_facts(facts).encode(), wall_ms, 0, kind)


def partition_of(key: str, partitions: int) -> int:
    """Return where a topic's messages or a client's facts go."""
    number = key.rpartition("/")[2]
    return int(number) % partitions if number.isdigit() else sum(key.encode()) % partitions
