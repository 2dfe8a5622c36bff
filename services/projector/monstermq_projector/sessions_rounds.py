"""What the worker of the sessions log looks for in the tables of the queues, again and again.

Cuts that ended sessions have left (S4), and queues over their limit (S5).
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from monstermq_projector.sessions_appends import FactAppends
from monstermq_shared.errors import StoreError
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.queue_limits import Overfull, QueueBounds
from monstermq_shared.stores.queues import KeepsQueues, QueueTotal

SWEEP_MAX = 1_000
"""Ended sessions that are looked at in one round."""

TOTALS_S = 0.5
"""How long an answer of the database on what waits is good enough for all partitions."""

ROUND_S_MAX = 5.0
"""How long a round may take: whoever has something to commit tells what is wrong then."""


class Totals:
    """What waits for whom, asked once for all partitions of the sessions log.

    Args:
        database: Where the queues are.
        generation: Of the bus.
        bounds: Only queues over them are of interest.
        partition_of: Tells in which partition a client's facts stand.
    """

    def __init__(
        self,
        database: KeepsQueues,
        generation: str,
        bounds: QueueBounds,
        partition_of: Callable[[str], int],
    ) -> None:
        self._database = database
        self._generation = generation
        self._bounds = bounds
        self._partition_of = partition_of
        self._found: dict[int, dict[str, QueueTotal]] = {}
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")

    async def of(self, partition: int) -> Mapping[str, QueueTotal]:
        """Return the clients of a partition with queues over the bounds, as of a moment ago."""
        async with self._asking:
            now_s = asyncio.get_running_loop().time()
            if now_s - self._asked_s >= TOTALS_S:
                found = await self._database.queue_totals(
                    self._generation,
                    messages_over=self._bounds.messages_max,
                    size_over=self._bounds.size_max,
                )
                self._asked_s, self._found = now_s, {}
                for client_id, total in found.items():
                    at = self._partition_of(client_id)
                    self._found.setdefault(at, {})[client_id] = total
        return self._found.get(partition, {})


class Rounds:
    """Rounds of one partition of the sessions log.

    Args:
        database: Where the queues are.
        generation: Of the bus.
        partition: Of the sessions log.
        appends: Where facts go.
        totals: What waits.
        bounds: What may be queued for a session.
    """

    def __init__(
        self,
        database: KeepsQueues,
        generation: str,
        partition: int,
        appends: FactAppends,
        totals: Totals,
        bounds: QueueBounds,
    ) -> None:
        self._database = database
        self._generation = generation
        self._partition = partition
        self._appends = appends
        self._totals = totals
        self._overfull = Overfull(bounds)

    async def make(self, claims: Claims, elapsed_s: float) -> int:
        """Make one; return how many messages are dropped from queues."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(ROUND_S_MAX):
                await self._sweep(claims)
                return await self._drop(elapsed_s)
        return 0

    async def _sweep(self, claims: Claims) -> None:
        ended = claims.to_sweep(SWEEP_MAX)
        if ended:
            found = await self._database.old_cuts(self._generation, ended)
            self._appends.offer(self._partition, claims.swept(ended, found))

    async def _drop(self, elapsed_s: float) -> int:
        asked = self._overfull.look(await self._totals.of(self._partition), elapsed_s)
        if not asked:
            return 0
        found = await self._database.oldest_rows(self._generation, asked)
        drops = self._overfull.drops(asked, found)
        room = self._appends.offer(self._partition, [ask for ask, _ in drops])
        return sum(count for _, count in drops) if room else 0


def rounds_by(
    database: object,
    generation: str,
    appends: FactAppends,
    bounds: QueueBounds,
    partition_of: Callable[[str], int],
) -> Callable[[int], Rounds | None]:
    """Return what makes the rounds of a partition; of a database without queues there are none.

    The arguments are those of ``Totals`` and ``Rounds``.
    """
    if not isinstance(database, KeepsQueues):
        return lambda _: None
    totals = Totals(database, generation, bounds, partition_of)
    return lambda number: Rounds(database, generation, number, appends, totals, bounds)
