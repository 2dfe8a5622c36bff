"""How busy generator and broker were while a figure was measured, and what that makes of it.

The rule: a figure is void if the generator had no time left while the broker had. A process has no
time left when it is busy for ``NO_TIME_LEFT`` of a core or more, in all its threads together. If
the broker has none left either, or if both wait for something else, such as the disk, the figure is
the broker's.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.brokers import Running

NO_TIME_LEFT = 0.9
"""Of a core. Not 1: the rest of the machine takes some even from a process that never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Processor time divided by the time that passed: 1 is one core."""

    generator: float
    broker: float
    """Of all its processes; with several threads it can be more than 1."""

    def is_void(self) -> bool:
        """Whether a figure measured meanwhile is the generator's, not the broker's."""
        return self.generator >= NO_TIME_LEFT > self.broker


class Reading(NamedTuple):
    """What a stopwatch shows."""

    elapsed_s: float
    busy: Busy


class Stopwatch:
    """Counts from when it is made: time, and the processor time of the generator and of a broker.

    Make it when the load is in its steady state: what was spent on the way there is not counted.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._broker_s = running.processor_s()
        self._generator_s = time.process_time()
        self._start = time.perf_counter()

    def read(self) -> Reading:
        """What has passed so far; it goes on."""
        elapsed_s = time.perf_counter() - self._start
        generator_s = time.process_time() - self._generator_s
        broker_s = self._running.processor_s() - self._broker_s
        return Reading(
            elapsed_s, Busy(generator=generator_s / elapsed_s, broker=broker_s / elapsed_s)
        )
