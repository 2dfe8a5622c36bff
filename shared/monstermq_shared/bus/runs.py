"""R1: what was appended twice, because nobody knew if the first time had worked, counts once."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

WILL_RUN = b"will"
"""Runs that begin so write the wills that became due in one sessions partition (S2)."""


class Runs:
    """The highest sequence of each run in one partition.

    A repeated batch follows the first one before anything newer of its run does (the writer's half
    of R1), so whatever is not above the highest sequence has been there. How many runs there are
    is bounded by time alone: a count would make readers differ that came at different moments.

    Args:
        lateness_ms: L: how late an append can land (R7). A run is forgotten when the newest record
            is 2 L past the run's last one; those that publish wills never are, because their
            sequences stand for facts, however long ago they were written.

    Attributes:
        newest_ms: The newest time of any record noted, -1 if there is none.
    """

    __slots__ = ("_forget_ms", "_keep_ms", "_runs", "newest_ms")

    def __init__(self, lateness_ms: int) -> None:
        self.newest_ms = -1
        self._keep_ms = 2 * lateness_ms
        # The time at which it is worth while to look for what can be forgotten.
        self._forget_ms = 0
        # run -> [highest sequence, newest time]
        self._runs: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        """Return how many runs are remembered."""
        return len(self._runs)

    def is_new(self, run: bytes, sequence: int, time_ms: int) -> bool:
        """Whether the record has not been there; it is noted, so that it has been from now on."""
        if time_ms > self.newest_ms:
            self.newest_ms = time_ms
            if time_ms >= self._forget_ms:
                self._forget()
        known = self._runs.get(run)
        if known is None or (known[1] + self._keep_ms <= self.newest_ms and _ends(run)):
            self._runs[run] = [sequence, time_ms]
            return True
        if time_ms > known[1]:  # noqa: PLR1730 - a call is dear here
            known[1] = time_ms
        if sequence <= known[0]:
            return False
        known[0] = sequence
        return True

    def highest(self, run: bytes) -> int:
        """Return the highest sequence of a run, -1 if it is not known."""
        known = self._runs.get(run)
        return -1 if known is None else known[0]

    def _forget(self) -> None:
        below_ms = self.newest_ms - self._keep_ms
        self._forget_ms = self.newest_ms + self._keep_ms // 2 + 1
        for run in [run for run, at in self._runs.items() if at[1] <= below_ms and _ends(run)]:
            del self._runs[run]

    def copy(self) -> Self:
        """Return the same state, which goes on by itself."""
        return self.load(self.dump(), self._keep_ms // 2)

    def dump(self) -> dict[str, list[int]]:
        """Return what has to be kept with a position: run, as hex -> [highest, newest ms]."""
        return {run.hex(): [*at] for run, at in self._runs.items()}

    @classmethod
    def load(cls, dump: Mapping[str, Sequence[Any]], lateness_ms: int) -> Self:
        """Return the state that was dumped.

        Raises:
            ValueError: It is not one.
        """
        runs = cls(lateness_ms)
        for run, (sequence, time_ms) in dump.items():
            runs._runs[bytes.fromhex(run)] = [int(sequence), int(time_ms)]
            runs.newest_ms = max(runs.newest_ms, int(time_ms))
        return runs


def _ends(run: bytes) -> bool:
    return not run.startswith(WILL_RUN)
