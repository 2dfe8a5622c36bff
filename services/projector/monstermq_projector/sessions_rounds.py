"""What the worker of the sessions log looks for in the tables of the queues, again and again.

Cuts that ended sessions have left (S4), and queues over their limit (S5).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from monstermq_projector.sessions_appends import FactAppends
from monstermq_shared.errors import StoreError
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.queue_limits import Overfull, QueueBounds
from monstermq_shared.stores.queues import KeepsQueues

SWEEP_MAX = 1_000
"""Ended sessions that are looked at in one round."""

ROUND_S_MAX = 5.0
"""How long a round may take: whoever has something to commit tells what is wrong then."""


class Rounds:
    """Rounds of one partition of the sessions log.

    Args:
        database: Where the queues are.
        generation: Of the bus.
        partition: Of the sessions log.
        appends: Where facts go.
        bounds: What may be queued for a session.
        count_dropped: Called with how many messages a queue over its limit loses.
    """

    def __init__(
        self,
        database: KeepsQueues,
        generation: str,
        partition: Partition,
        appends: FactAppends,
        bounds: QueueBounds,
        count_dropped: Callable[[int], None],
    ) -> None:
        self._database = database
        self._generation = generation
        self._partition = partition
        self._appends = appends
        self._bounds = bounds
        self._count_dropped = count_dropped
        self._overfull = Overfull(bounds)

    async def make(self, claims: Claims, elapsed_s: float) -> None:
        """Make one."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(ROUND_S_MAX):
                await self._sweep(claims)
                await self._drop(elapsed_s)

    async def _sweep(self, claims: Claims) -> None:
        ended = claims.to_sweep(SWEEP_MAX)
        if ended:
            found = await self._database.old_cuts(self._generation, ended)
            self._appends.offer(self._partition.number, claims.swept(ended, found))

    async def _drop(self, elapsed_s: float) -> None:
        totals = await self._database.queue_totals(
            self._generation,
            self._partition.number,
            messages_over=self._bounds.messages_max,
            size_over=self._bounds.size_max,
        )
        asked = self._overfull.look(totals, elapsed_s)
        if asked:
            found = await self._database.oldest_rows(self._generation, asked)
            drops = self._overfull.drops(asked, found)
            if self._appends.offer(self._partition.number, [ask for ask, _ in drops]):
                self._count_dropped(sum(count for _, count in drops))
