"""P5: whoever commits nothing at present finds out, too, that his work is another's now."""

from collections.abc import Mapping, Sequence

from monstermq_shared.errors import StoreConflict, TenureEnded
from monstermq_shared.stores.changes import Tenure

Holders = Mapping[tuple[str, int], tuple[int, str]]
"""(projection, partition) -> version and token of the tenure it has, as of one moment."""


class TenureWatch:
    """Compares the tenures of one partition with what the database says of them, now and then.

    Only tenures count that have stood still since before the database was asked: of those that
    commit meanwhile the answer is of no moment, and their next commit finds out.
    """

    def __init__(self) -> None:
        self._seen_s = 0.0
        # Token -> version, as of then.
        self._seen: dict[str, int] = {}

    def look(
        self, tenures: Sequence[Tenure], holders: Holders, asked_s: float, now_s: float
    ) -> None:
        """Take note of an answer.

        Args:
            tenures: Those that are thought to be ours.
            holders: The newest answer.
            asked_s: When the question was put; both are monotonic.
            now_s: Now.

        Raises:
            StoreConflict: Another has begun, or the database has lost commits.
        """
        if asked_s <= self._seen_s:
            return
        for tenure in tenures:
            if self._seen.get(tenure.token) == tenure.version:
                _check(tenure, holders)
        self._seen_s = now_s
        self._seen = {tenure.token: tenure.version for tenure in tenures}


def _check(tenure: Tenure, holders: Holders) -> None:
    for name in tenure.projections:
        version, token = holders.get((name, tenure.partition.number), (-1, tenure.token))
        if not token:
            raise TenureEnded(f"a command has changed what this process commits ({name})")
        if token != tenure.token:
            raise StoreConflict(f"another process has begun to commit what this one does ({name})")
        if version < tenure.version:
            raise StoreConflict(f"the database has lost what was committed of {name}")
