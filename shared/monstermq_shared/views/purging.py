"""Deleting what is past its retention, without holding up the commits."""

import asyncio
from collections.abc import Callable

from monstermq_shared.stores.ports import Purgeable

PURGE_ROWS = 2_000
"""Rows deleted at once; commits go between two slices."""

PURGE_PAUSE_S = 0.02
"""Seconds for the commits after each slice."""


def _always() -> bool:
    return True


async def purge_in_slices(
    store: Purgeable,
    *,
    before_ms: int,
    count: Callable[[int], None],
    goes_on: Callable[[], bool] = _always,
) -> None:
    """Delete what is older than that.

    Args:
        store: Where.
        before_ms: Milliseconds UTC.
        count: Told how many rows each slice had.
        goes_on: Asked before each of them.

    Raises:
        StoreError: The database does not do it, now or for good.
    """
    while goes_on():
        rows = await store.purge(before_ms=before_ms, limit=PURGE_ROWS)
        if not rows:
            return
        count(rows)
        await asyncio.sleep(PURGE_PAUSE_S)
