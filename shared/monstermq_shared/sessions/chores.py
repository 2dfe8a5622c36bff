"""Long work that nobody waits for, done a piece per turn of the event loop."""

from collections import deque
from collections.abc import Iterator

PIECE = 2_000
"""Units of work (``budget``) that are done at once: one to two milliseconds."""


class Chores:
    """Jobs that wait, in order; each is an iterator that yields what its last step has cost.

    Whoever adds jobs bounds how many there are; ``waiting`` tells how much there is.

    Attributes:
        waiting: Steps that are yet to be done.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._jobs: deque[Iterator[int]] = deque()

    def add(self, job: Iterator[int], steps: int) -> None:
        """Let a job of so many steps be done later."""
        self.waiting += steps
        self._jobs.append(job)

    def work(self) -> bool:
        """Do a piece; return whether there is more to do."""
        done = 0
        while self._jobs and done < PIECE:
            cost = next(self._jobs[0], None)
            if cost is None:
                self._jobs.popleft()
            else:
                self.waiting -= 1
                done += cost
        return bool(self._jobs)
