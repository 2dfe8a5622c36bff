"""The worker of the sessions log on a stage: its log, the bus, and a database that may refuse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.support.followed_log import LATENESS_MS, FollowedLog, Reader, describe, running

from monstermq_projector.sessions_appends import FactAppends
from monstermq_projector.sessions_fold import SessionsBatch
from monstermq_projector.sessions_rounds import rounds_by
from monstermq_projector.sessions_wills import Wills
from monstermq_projector.sessions_work import SessionsDesk, SessionsWork
from monstermq_shared import retries
from monstermq_shared.bus.control import decode_facts, encode_facts
from monstermq_shared.bus.facts import Fact, Gap, Lease
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.runs import Runs
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import BusRefused, BusUnavailable, BusUntimely, MonsterError
from monstermq_shared.messages import Will
from monstermq_shared.positions import Partition, Position
from monstermq_shared.records import SESSION_TOPIC, ControlRecord, Record
from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.outages import Outage
from monstermq_shared.testing.memory_bus import MemoryLog
from monstermq_shared.views import log_follower
from monstermq_shared.views.log_fold import LogSettings
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_work import Desk

PATIENCE_S = 30.0
PLACE = Partition("kafka:cluster:monster-sessions", 3)
SETTINGS = LogSettings(log_id="kafka:cluster:monster", lateness_ms=LATENESS_MS, describe=describe)
EDGE = b"edge-one"
WILL_RUN = b"will\0\0\0\3"
WILL = Will(topic="gone", payload=b"away", qos=1, retain=True)


class Unsteady(MemoryDatabase):
    """A database that takes no commit while ``errors`` has some."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[MonsterError] = []

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        if self.errors:
            raise self.errors.pop()
        return await super().commit(tenure, commit)


class SessionsLog(MemoryLog):
    """The partition that the worker follows, as it appends to it."""

    def __init__(self, log: FollowedLog) -> None:
        super().__init__(12, 1_000_000, 1_000_000)
        self._log = log
        self.is_full = False

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> "asyncio.Future[Position | None]":
        assert partition == PLACE.number
        if self.is_full:
            raise BusUnavailable("full")
        for sequence, record in enumerate(records, stamp.sequence):
            self._log.append(record, stamp.writer, sequence)
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Messages(MemoryLog):
    """The bus, which may refuse what is appended.

    Attributes:
        refused: How many appends are refused from now on.
        clock_is_off: Every append is refused for its time.
        untimely: How many were.
        appended: (writer, sequence, record) of all other messages.
        control: (partition, stamp, facts) of all other control records.
    """

    def __init__(self) -> None:
        super().__init__(3, 10_000_000, 10_000_000)
        self.refused = 0
        self.clock_is_off = False
        self.untimely = 0
        self.appended: list[tuple[bytes, int, Record]] = []
        self.control: list[tuple[int, Stamp, list[Fact]]] = []

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> "asyncio.Future[Position | None]":
        future = super().append(partition, records, stamp)
        if self.clock_is_off:
            self.untimely += 1
            return _refused(BusUntimely("too new"))
        if self.refused:
            self.refused -= 1
            return _refused(BusRefused("too large"))
        (record,) = records
        if isinstance(record, ControlRecord):
            self.control.append((partition, stamp, decode_facts(record.payload)))
        else:
            self.appended.append((stamp.writer, stamp.sequence, record))
        return future

    def facts(self) -> list[tuple[int, Fact]]:
        """Return (partition, fact) of all control records."""
        return [(partition, fact) for partition, _, facts in self.control for fact in facts]

    def counted(self) -> list[tuple[str, bytes]]:
        """Return (client, payload) of what readers do not take for a double (R1)."""
        runs = [Runs(LATENESS_MS) for _ in range(self.partitions)]
        return [
            (record.client_id, record.payload)
            for writer, sequence, record in self.appended
            if runs[self.partition_of(record.topic)].is_new(writer, sequence, record.timestamp_ms)
        ]


def _refused(error: BusRefused) -> "asyncio.Future[Position | None]":
    future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


class Stage:
    """A partition of the sessions log, the bus, a database, and workers.

    Attributes:
        owner: The partition that has the facts of every client.
    """

    def __init__(self) -> None:
        self.log = FollowedLog()
        self.messages = Messages()
        self.sessions = SessionsLog(self.log)
        self.database = Unsteady()
        self.failed: list[MonsterError] = []
        self.owner = PLACE.number
        clock = SystemClock()
        self.outage = Outage("log", MonsterError)
        facts = FactAppends(self.messages, self.sessions, clock, self.outage)
        self.desk = SessionsDesk(
            wills=Wills(self.messages, clock, self.outage),
            facts=facts,
            clock=clock,
            partitions=self.messages.partitions,
            lease_s=10.0,
            rounds_of=rounds_by(
                self.database, SETTINGS.log_id, facts, QueueBounds(10, 1_000_000), self.owner_of
            ),
        )

    @classmethod
    def impatient(cls, monkeypatch: pytest.MonkeyPatch) -> "Stage":
        """Return a stage on which nobody waits for time to pass."""
        monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
        monkeypatch.setattr(log_follower, "MARKS_S", 0.0)
        monkeypatch.setattr(log_follower, "REREAD_S", 0.0)
        monkeypatch.setattr(log_follower, "LOOK_S", 0.0)
        return cls()

    def append(
        self,
        *facts: Fact,
        sequence: int | None = None,
        text: str | None = None,
        ago_ms: int = 0,
    ) -> int:
        """Append a record of an edge, as of a while ago; return its offset."""
        kind = Kind.LEASE if isinstance(facts[0], Lease | Gap) else Kind.FACTS
        payload = (encode_facts(facts) if text is None else text).encode()
        time_ms = SystemClock().wall_ms() - ago_ms
        record = ControlRecord(SESSION_TOPIC, payload, time_ms, 0, kind)
        return self.log.append(record, EDGE, sequence).offset

    @asynccontextmanager
    async def working(self) -> AsyncIterator[LogFollower[SessionsBatch]]:
        """Let another worker follow, which reads for itself."""
        log = FollowedLog()
        log.entries, log.first = self.log.entries, self.log.first
        desk = Desk(
            name="sessions",
            log_id=SETTINGS.log_id,
            database=self.database,
            source=log,
            fail=self.failed.append,
            outage=Outage("database"),
            log_outage=self.outage,
            retry_s=0.0,
        )
        self.work = SessionsWork(SETTINGS, PLACE, desk, self.desk)
        follower = LogFollower(desk, PLACE, self.work)
        async with running(follower.run, Reader(log, follower).run):
            yield follower
        follower.close()

    async def caught_up(self) -> None:
        """Wait until all there is was committed."""
        entries = self.log.entries
        await until(lambda: self.work.reflected().get("sessions") == len(entries))

    def rows(self) -> dict[str, int | None]:
        """Return client -> epoch of its row."""
        return {at.row.client_id: at.row.epoch for at in self.database.sessions.stored(PLACE)}

    def owner_of(self, _: str) -> int:
        """Return whose a client is."""
        return self.owner

    def last_facts(self) -> list[Fact]:
        """Return what stands in the last record of the log."""
        return self.facts_at(-1)

    def facts_at(self, offset: int) -> list[Fact]:
        """Return what stands in a record of the log."""
        return decode_facts(self.log.entries[offset].record().payload)


async def until(holds: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - every turn is looked at, not an event of the product
            await asyncio.sleep(0)
