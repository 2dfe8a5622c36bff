"""Whether a projector makes the rows that kept sessions wait for: told as it begins and ends."""

import logging
from collections.abc import Collection, Mapping, Sequence

logger = logging.getLogger(__name__)

PAUSE_S = 2.0
"""Marks that were not looked at for so long may have stood still for want of their database."""


NAMED_MAX = 8
"""More partitions are counted, and not named."""


class Unfollowed:
    """Notices rows that stand still while somebody needs them to go on.

    Marks that stand still mean nothing by themselves: the log may have no more. What a session
    waits for is in the log, and a projector that follows commits it within a second.

    Attributes:
        partitions: Partition -> where its rows stand still, until they go on: clients that give up
            and come again are no end of it.

    Args:
        what: Whose partitions they are, as the log names them.
        why: What comes of it, and what to do.
        stands_s: After so long without a move nobody follows. Longer than partitions of a projector
            that dies take to be another's.
    """

    def __init__(self, what: str, why: str, stands_s: float) -> None:
        self.partitions: dict[int, int | None] = {}
        self._what = what
        self._why = why
        self._stands_s = stands_s
        self._looked_s: float | None = None
        # Partition -> (where its rows are, since when somebody waits for more).
        self._waited: dict[int, tuple[int | None, float]] = {}

    @property
    def told(self) -> str:
        """What there is to tell, in a sentence for ``/ready``; empty if there is nothing."""
        if not self.partitions:
            return ""
        where = _named(sorted(self.partitions))
        return f"no projector makes the rows of {self._what}, {where}: {self._why}"

    def look(self, waited: Collection[int], marks: Mapping[int, int], now_s: float) -> None:
        """Take marks that were just read.

        Args:
            waited: Partitions whose rows somebody needs beyond these marks.
            marks: Partition -> up to where its rows are.
            now_s: Monotonic seconds.
        """
        if self._looked_s is None or now_s - self._looked_s > PAUSE_S:
            self._waited.clear()
        self._looked_s = now_s
        before, self._waited = self._waited, {}
        for number in waited:
            mark = marks.get(number)
            seen, since_s = before.get(number, (mark, now_s))
            self._waited[number] = (mark, since_s if seen == mark else now_s)
        self._tell({n: m for n, m in self.partitions.items() if marks.get(n) == m}, now_s)

    def _tell(self, standing: dict[int, int | None], now_s: float) -> None:
        was_told = bool(self.partitions)
        for number, (mark, since_s) in self._waited.items():
            if now_s - since_s >= self._stands_s:
                standing[number] = mark
        self.partitions = standing
        if standing and not was_told:
            logger.warning("%s", self.told)
        elif was_told and not standing:
            logger.warning("a projector makes the rows of %s again", self._what)


def _named(partitions: Sequence[int]) -> str:
    if len(partitions) > NAMED_MAX:
        return f"{len(partitions)} partitions"
    return f"partition{'s' * (len(partitions) > 1)} {', '.join(map(str, partitions))}"
