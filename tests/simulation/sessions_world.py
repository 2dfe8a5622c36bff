"""The sessions log with edges and workers of the bus around it, for ``test_claims``.

What counts is told by ``Told``, which reads the log by the words of R2, S1 and S2 and shares no
code with the product.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monstermq_shared.bus.facts import (
    EXPIRY_S_MAX,
    Claim,
    Detach,
    Fact,
    Gap,
    Lease,
    Marker,
    Open,
    Subs,
)
from monstermq_shared.messages import Subscription, Will
from monstermq_shared.positions import Partition
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import NOON_MS

CLIENTS = "abcd"
PARTITIONS = 2
RUNS = [bytes([number]) * 8 for number in range(1, 4)]
STEP_MS = 1_000
LEASE_MS = 3 * STEP_MS
PARTITION = Partition("kafka:a:b-sessions", 3)
FACTS_MAX = 65_536


class Published(NamedTuple):
    """A will as it stands on the bus: whoever reads it applies R1."""

    client_id: str
    payload: bytes
    sequence: int


@dataclass
class ToldSession:
    """What the log says of a client so far.

    Attributes:
        over_gap: A gap of the bus has come while it was attached: by S6 only its next claim makes
            up for that.
    """

    epoch: int = -1
    incarnation: int = -1
    expiry_s: int = 0
    attached: bool = False
    will: Will | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    in_flight: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    sent: tuple[tuple[int, int], ...] | None = ()
    over_gap: bool = False


@dataclass
class Told:
    """A reader of the log.

    Attributes:
        sessions: As of the last record it was given.
        wills: What is due so far.
    """

    sessions: dict[str, ToldSession] = field(default_factory=dict)
    wills: list[Published] = field(default_factory=list)

    def read(self, facts: Sequence[Fact], offset: int) -> list[Fact]:
        """Take a record; return the facts of it that count."""
        return [fact for index, fact in enumerate(facts) if self._read(fact, offset, index)]

    def _read(self, fact: Fact, offset: int, index: int) -> bool:
        if isinstance(fact, Lease | Gap):
            for at in self.sessions.values() if isinstance(fact, Gap) else ():
                at.over_gap |= at.attached and at.expiry_s > 0
            return True
        told = self.sessions.setdefault(fact.client_id, ToldSession())
        if isinstance(fact, Claim):
            if fact.only_if is not None and fact.only_if != told.epoch:
                return False
            self._due(told, fact.client_id, offset * FACTS_MAX + index, is_due=told.attached)
            self._claim(told, fact, offset)
            return True
        assert isinstance(fact, Detach | Subs | Open)
        if not told.attached or fact.epoch != told.epoch:
            return False
        if isinstance(fact, Subs):
            told.subscriptions.update(_mapped(fact.add))
            told.subscriptions = {
                name: qos for name, qos in told.subscriptions.items() if name not in fact.remove
            }
        elif isinstance(fact, Open):
            told.in_flight[fact.packet_id] = (fact.partition, fact.offset)
        else:
            sequence = offset * FACTS_MAX + index
            self._due(told, fact.client_id, sequence, is_due=fact.will)
            told.attached, told.sent = False, fact.sent
            if fact.in_flight is not None:
                told.in_flight = {k: v for k, v in told.in_flight.items() if k in fact.in_flight}
        return True

    @staticmethod
    def _claim(told: ToldSession, claim: Claim, offset: int) -> None:
        if told.attached:
            told.sent = None
        if claim.clean or told.epoch < 0 or told.expiry_s == 0:
            told.incarnation = offset
            told.subscriptions, told.in_flight, told.sent = {}, {}, ()
        told.epoch, told.expiry_s, told.will = offset, claim.expiry_s, claim.will
        told.attached, told.over_gap = claim.only_if is None, False

    def _due(self, told: ToldSession, client_id: str, sequence: int, *, is_due: bool) -> None:
        if is_due and told.will is not None:
            self.wills.append(Published(client_id, told.will.payload, sequence))
        told.will = None


class Shown(NamedTuple):
    """What a partition of the bus shows of a client: its cut."""

    epoch: int
    subscriptions: dict[str, int]


@dataclass
class BusPartition:
    """A partition of the bus, as far as markers go, and its worker.

    Attributes:
        markers: What stands there.
        position: Of the worker.
        cuts: Its rows.
    """

    markers: list[Marker] = field(default_factory=list)
    position: int = 0
    cuts: dict[str, Shown] = field(default_factory=dict)

    def work(self) -> None:
        """Take the next marker (R3, P4)."""
        marker = self.markers[self.position]
        self.position += 1
        cut = self.cuts.get(marker.client_id, Shown(-1, {}))
        if marker.epoch < cut.epoch:
            return
        subscriptions = cut.subscriptions if marker.whole is None else _mapped(marker.whole)
        subscriptions = {**subscriptions, **_mapped(marker.add)}
        for name in marker.remove:
            subscriptions.pop(name, None)
        self.cuts[marker.client_id] = Shown(marker.epoch, subscriptions)


def _mapped(subscriptions: Iterable[Subscription]) -> dict[str, int]:
    return {name: qos for name, qos, _ in subscriptions}


@dataclass
class World:
    """Both logs, the database, and the edges.

    Attributes:
        facts: The sessions partition: the facts of each record, and its time.
        wills: What was appended to two partitions of the bus, doubled ones included.
        bus: The same, as far as markers go.
        now_ms: The time.
        under_way: What workers have appended to the sessions log, and has not landed yet.
    """

    chance: random.Random
    facts: list[list[Fact]] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    wills: list[list[Published]] = field(default_factory=lambda: [[], []])
    bus: list[BusPartition] = field(
        default_factory=lambda: [BusPartition() for _ in range(PARTITIONS)]
    )
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    now_ms: int = NOON_MS
    under_way: list[Fact] = field(default_factory=list)
    _edges: Told = field(default_factory=Told)
    _read: int = 0

    def append(self, *facts: Fact) -> None:
        """Append a record to the sessions log."""
        self.facts.append([*facts])
        self.times_ms.append(self.now_ms)

    def land(self, limit: int) -> None:
        """Let some of what is under way stand in the log."""
        for fact in self.under_way[:limit]:
            self.append(fact)
        del self.under_way[:limit]

    # -- edges -----------------------------------------------------------------------------------

    def edge_step(self) -> None:
        """An edge appends something, late perhaps, and edges read a part of the log."""
        self.now_ms += STEP_MS
        client_id = self.chance.choice(CLIENTS)
        match self.chance.randrange(8):
            case 0 | 1:
                self.append(self._claim(client_id))
            case 2:
                self.append(self._detach(client_id))
            case 3 | 4:
                self.append(self._subs(client_id))
            case 5:
                opened = self.chance.choice([(0, self.chance.randrange(9)), (None, None)])
                self.append(
                    Open(
                        client_id=client_id,
                        epoch=self._epoch(client_id),
                        packet_id=self.chance.randrange(1, 4),
                        partition=opened[0],
                        offset=opened[1],
                    )
                )
            case _:
                self.append(Lease(run=self.chance.choice(RUNS), for_ms=LEASE_MS))
        self.edges_read(self.chance.randrange(4))
        if self.chance.random() < 0.3:
            self.land(3)

    def _epoch(self, client_id: str) -> int:
        """Return the epoch of somebody's connection, or of one that was."""
        told = self._edges.sessions.get(client_id)
        if told is None or told.epoch < 0 or self.chance.random() < 0.2:
            return self.chance.randrange(len(self.facts) + 1)
        return told.epoch

    def _claim(self, client_id: str) -> Claim:
        will = Will(
            topic=self.chance.choice("xy"), payload=b"%d" % len(self.facts), qos=1, retain=False
        )
        expiry_s = self.chance.choice([0, 0, 5, 20, EXPIRY_S_MAX])
        return Claim(
            client_id=client_id,
            clean=expiry_s == 0 or self.chance.random() < 0.2,
            expiry_s=expiry_s,
            will=self.chance.choice([will, None]),
            run=self.chance.choice(RUNS),
            protocol=4,
        )

    def _detach(self, client_id: str) -> Detach:
        known = self.chance.random() < 0.7
        return Detach(
            client_id=client_id,
            epoch=self._epoch(client_id),
            will=self.chance.random() < 0.5,
            in_flight=(1, 3) if known else None,
            sent=((0, self.chance.randrange(9)),) if known else None,
        )

    def _subs(self, client_id: str) -> Subs:
        name = self.chance.choice(["x/#", "y", "z"])
        is_new = self.chance.random() < 0.7
        return Subs(
            client_id=client_id,
            epoch=self._epoch(client_id),
            add=((name, self.chance.randrange(3), 0),) if is_new else (),
            remove=() if is_new else (name,),
        )

    def edges_read(self, limit: int) -> None:
        """Edges read some of the log, and append markers for what counts (E3, E10)."""
        for _ in range(min(limit, len(self.facts) - self._read)):
            facts = self._edges.read(self.facts[self._read], self._read)
            self._read += 1
            for fact in facts:
                self._mark(fact)

    def _mark(self, fact: Fact) -> None:
        if not isinstance(fact, Claim | Subs) or getattr(fact, "only_if", None) is not None:
            return
        told = self._edges.sessions[fact.client_id]
        if not told.expiry_s:
            return
        whole = tuple((name, qos, 0) for name, qos in told.subscriptions.items())
        for partition in self.bus:
            partition.markers.append(
                Marker(
                    client_id=fact.client_id,
                    epoch=told.epoch,
                    incarnation=told.incarnation,
                    whole=whole if isinstance(fact, Claim) else None,
                    add=fact.add if isinstance(fact, Subs) else (),
                    remove=fact.remove if isinstance(fact, Subs) else (),
                )
            )

    # -- workers of the bus ----------------------------------------------------------------------

    def bus_step(self) -> None:
        """A worker of the bus reads all there is, now and then, or retention overtakes it (P7)."""
        number = self.chance.randrange(PARTITIONS)
        partition = self.bus[number]
        if self.chance.random() < 0.04:
            self.append(Gap(partition=number, to=len(partition.markers)))
            partition.position = len(partition.markers)
        elif self.chance.random() < 0.2:
            while partition.position < len(partition.markers):
                partition.work()

    def old_cuts(self, ended: Mapping[str, int]) -> dict[str, list[int]]:
        """See ``KeepsQueues``."""
        found: dict[str, list[int]] = {}
        for number, partition in enumerate(self.bus):
            for client_id, epoch in ended.items():
                cut = partition.cuts.get(client_id)
                if cut is not None and cut.epoch < epoch:
                    found.setdefault(client_id, []).append(number)
        return found
