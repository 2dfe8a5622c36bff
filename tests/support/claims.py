"""The worker of the sessions log as tests drive it: a log, its fold, and the rows in memory."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from monstermq_shared.bus.control import kind_of
from monstermq_shared.bus.fact_reading import check_facts
from monstermq_shared.bus.facts import Claim, Detach, Fact, Gap, Marker, Open, Subs
from monstermq_shared.messages import Will
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.session_asks import Ask, ClaimsBatch
from monstermq_shared.stores.changes import Commit, StoredSession
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import NOON_MS, commit_once

LEASE_MS = 10_000
PARTITIONS = 3
PARTITION = Partition("kafka:a:b-sessions", 3)
EDGE = b"edge-one"
EXPIRY_S = 3_600
WILL = Will(topic="gone", payload=b"away", qos=1, retain=True)
KEPT = Claim(client_id="a", clean=False, expiry_s=EXPIRY_S, will=None, run=EDGE, protocol=4)
CLEAN = replace(KEPT, clean=True, expiry_s=0)


class ClaimsFold:
    """A partition of the sessions log, its worker, and what that commits.

    Attributes:
        claims: The worker's fold.
        time_ms: Of the next record.
        log: What stands in the partition.
    """

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.time_ms = NOON_MS
        self.log: list[Sequence[Fact]] = []
        self.claims = self._new()
        self._uptos = count(1)

    def _new(self) -> Claims:
        return Claims(partitions=PARTITIONS, lease_ms=LEASE_MS)

    # -- facts -----------------------------------------------------------------------------------

    def take(self, *facts: Fact) -> int:
        """Append facts as one record, and take them; return its offset."""
        offset = len(self.log)
        self.log.append(facts)
        check_facts(kind_of(facts[0]), facts)
        self.claims.take(facts, offset, self.time_ms)
        return offset

    def kept(self, client_id: str = "a", *filters: str, **more: object) -> int:
        """Begin, or go on with, a kept session that subscribes; return the epoch."""
        epoch = self.take(replace(KEPT, client_id=client_id, **more))  # type: ignore[arg-type]  # of any member
        if filters:
            added = tuple((name, 1, 0) for name in filters)
            self.take(Subs(client_id=client_id, epoch=epoch, add=added))
        return epoch

    def away(self, client_id: str = "a", *filters: str, **more: object) -> int:
        """The same, and its connection ends; return the epoch."""
        epoch = self.kept(client_id, *filters, **more)
        self.take(Detach(client_id=client_id, epoch=epoch, will=False))
        return epoch

    def open(self, epoch: int, packet_id: int, position: tuple[int, int] | None) -> None:
        """An outgoing QoS 2 delivery of client a."""
        at = (None, None) if position is None else position
        self.take(
            Open(client_id="a", epoch=epoch, packet_id=packet_id, partition=at[0], offset=at[1])
        )

    def gap(self, partition: int = 2) -> int:
        """Retention has overtaken a partition of the bus."""
        return self.take(Gap(partition=partition, to=77))

    # -- the worker ------------------------------------------------------------------------------

    def flush(self) -> tuple[ClaimsBatch, list[Ask]]:
        """Return a batch, and what must be appended before it is committed."""
        batch = self.claims.flush()
        return batch, [ask for piece in self.claims.debts(batch) for ask in piece]

    async def commit(self) -> list[Ask]:
        """Commit what has changed; return what had to be appended before."""
        batch, owed = self.flush()
        commit = Commit(upto=next(self._uptos), sessions=batch.changes)
        await commit_once(self.database, commit, "sessions", partition=PARTITION)
        return owed

    async def restart(self) -> None:
        """Go on with another worker, from the rows."""
        self.claims = self._new()
        self.claims.load((await self.rows()).values())

    def at_end(self, elapsed_ms: int = 1_000, *, wall_ms: int | None = None) -> list[Fact]:
        """Let time pass in which nothing more comes; return what the sessions log is to get."""
        self.claims.at_end(elapsed_ms, self.time_ms if wall_ms is None else wall_ms)
        found: list[Fact] = []
        while asks := self.claims.asks():
            assert all(ask.partition is None for ask in asks)
            found += [ask.fact for ask in asks]
        return found

    async def rows(self) -> dict[str, StoredSession]:
        """Return the sessions as the database has them."""
        async with self.database.sessions.load(PARTITION) as snapshot:
            return {at.row.client_id: at async for page in snapshot.pages() for at in page}


def end_of(epoch: int, client_id: str = "a", protocol: int = 4) -> Claim:
    """Return the claim that ends a session (S4)."""
    return replace(CLEAN, client_id=client_id, run=bytes(8), only_if=epoch, protocol=protocol)


def sweep_of(epoch: int, client_id: str = "a") -> Marker:
    """Return the marker that takes a session from a partition (S4)."""
    return Marker(client_id=client_id, epoch=epoch, incarnation=epoch, whole=())
