"""What a scenario is: how it is run, what it measures, and what the figures must be."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.brokers import Profile, Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done: everything that differs between a measurement and a test that it works."""

    seconds: float
    sustained_s: float
    warm_up_s: float
    repeats: int
    pairs: int
    fan_out: int
    idle_connections: int
    retained_topics: int
    messages_per_s: int
    """The fixed rate at which latency is measured."""


LARGE = Effort(
    seconds=4,
    sustained_s=60,
    warm_up_s=1,
    repeats=3,
    pairs=50,
    fan_out=100,
    idle_connections=10_000,
    retained_topics=200_000,
    messages_per_s=20_000,
)
SMALL = Effort(
    seconds=0.2,
    sustained_s=0.3,
    warm_up_s=0.05,
    repeats=1,
    pairs=4,
    fan_out=5,
    idle_connections=20,
    retained_topics=400,
    messages_per_s=400,
)


def chosen_effort() -> Effort:
    """``LARGE`` if the environment has ``MONSTERMQ_BENCH``."""
    return LARGE if os.environ.get("MONSTERMQ_BENCH") else SMALL


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must reach."""

    value: float
    of_mosquitto: bool = False
    """``value`` is a multiple of mosquitto's figure in the same run."""
    at_most: bool = False
    """Smaller is better."""

    def is_met(self, figure: float, peer: float | None) -> bool | None:
        """Whether ``figure`` reaches it; None if that takes a peer's figure that is not there."""
        if self.of_mosquitto and not peer:
            return None
        limit = self.value * peer if self.of_mosquitto and peer else self.value
        return figure <= limit if self.at_most else figure >= limit


def times(value: float) -> Bound:
    """At least ``value`` times mosquitto."""
    return Bound(value, of_mosquitto=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table."""

    name: str
    title: str
    unit: str
    required: Bound | None = None
    aim: Bound | None = None
    limited_with: str = ""
    """The metric whose ceiling decides over this one too; empty for its own, if it has one."""


@dataclass(slots=True)
class Outcome:
    """What one run of a scenario found."""

    figures: dict[str, float]
    """By the name of the metric."""
    problems: list[str] = field(default_factory=list)
    """What must not be: lost, doubled or wrong messages."""


Run = Callable[[Running, Effort], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load, the broker's profile under it, and the rows it gives."""

    name: str
    metrics: Sequence[Metric]
    run: Run
    configuration: str
    profile: Profile = Profile.ROUTING
    ceiling: Run | None = None
    """The same work against the null broker, as far as it can; None if rates play no part."""
    once: bool = False
    """Long enough not to be repeated."""
