"""A commit that is repeated until it is done: what followers of every kind do with a batch."""

from collections.abc import Callable
from functools import partial

from monstermq_shared.retries import telling_when_late
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.outages import COMMITS, Outage
from monstermq_shared.stores.ports import Database


async def commit_until_done(
    database: Database,
    tenure: Tenure,
    commit: Commit,
    outage: Outage,
    after_failure: Callable[[], None],
) -> CommitResult:
    """Commit, again and again while the database is only unavailable, and tell when it is late.

    Args:
        database: Where.
        tenure: The right to.
        commit: What.
        outage: Told of what fails.
        after_failure: Called after each attempt that failed.

    Raises:
        StoreConflict: The tenure is over.
        StoreError: The database refuses for good.
    """

    async def attempt() -> CommitResult:
        with telling_when_late(partial(outage.late, COMMITS)):
            return await database.commit(tenure, commit)

    return await outage.repeat(COMMITS, attempt, after_failure)
