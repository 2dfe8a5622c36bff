"""How busy generator and broker were while a figure was measured, and what that makes of it.

The rule: a figure is void if the generator had no time left while the broker had. A process has no
time left when its busiest thread is busy for ``NO_TIME_LEFT`` of a core or more. If the broker has
none left either, or if both wait for something else, such as the disk, the figure is the broker's.

It is the busiest thread and not all together, because threads in parallel add up to a core without
any of them being short of time. For the generator and mosquitto, with one thread each, it is the
same. Threads that wait for each other, as for Python's interpreter, may be the limit though none is
that busy; and a thread that ends takes its count along. So a figure of MonsterMQ may be void though
it is its own: that errs on the strict side.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.brokers import Running, ThreadId

NO_TIME_LEFT = 0.9
"""Of a core. Not 1: the rest of the machine takes some even from a thread that never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Processor time of the busiest thread divided by the time that passed: 1 is one core."""

    generator: float
    broker: float

    def is_void(self) -> bool:
        """Whether a figure measured meanwhile is the generator's, not the broker's."""
        return self.generator >= NO_TIME_LEFT > self.broker


def busiest_s(before: Mapping[ThreadId, float], after: Mapping[ThreadId, float]) -> float:
    """The most that one thread has computed in between; a thread new since then began at 0."""
    return max([0.0, *(spent_s - before.get(thread, 0.0) for thread, spent_s in after.items())])


class Reading(NamedTuple):
    """What a stopwatch shows."""

    elapsed_s: float
    busy: Busy


class Stopwatch:
    """Counts from when it is made: time, and the processor time of the generator and of a broker.

    Make it in the generator's thread when the load is in its steady state: what was spent on the
    way there is not counted.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._threads = running.thread_times()
        self._generator_s = time.thread_time()
        self._start = time.perf_counter()

    def read(self) -> Reading:
        """What has passed so far; it goes on."""
        elapsed_s = time.perf_counter() - self._start
        generator_s = time.thread_time() - self._generator_s
        broker_s = busiest_s(self._threads, self._running.thread_times())
        return Reading(
            elapsed_s, Busy(generator=generator_s / elapsed_s, broker=broker_s / elapsed_s)
        )
