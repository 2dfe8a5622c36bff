"""What a scenario is: how it is run, what it measures, and what the figures must be."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.brokers import Profile, Running
from tests.bench.busy import Busy


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
    subscriptions: int
    messages_per_s: int
    """The fixed rate at which latency is measured."""
    stored_rows: int
    """In the benchmarks of the stores and of the tree of topics."""
    history_rows: int
    """In the archive that a history is read from."""
    history_topics: int
    query_topics: int
    """With a value, when questions are asked."""
    log_records: int
    """In the log that tools read."""
    codec_calls: int
    """For one figure of decoder or encoder."""
    attack_share: float
    """Of the full size of each attack on the broker."""


LARGE = Effort(
    seconds=4,
    sustained_s=60,
    warm_up_s=1,
    repeats=3,
    pairs=50,
    fan_out=100,
    idle_connections=10_000,
    retained_topics=200_000,
    subscriptions=1_000_000,
    messages_per_s=20_000,
    stored_rows=200_000,
    history_rows=10_000_000,
    history_topics=5_000,
    query_topics=1_000_000,
    log_records=5_000_000,
    codec_calls=2_000,
    attack_share=1,
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
    subscriptions=10_000,
    messages_per_s=400,
    stored_rows=5_000,
    history_rows=5_000,
    history_topics=3,
    query_topics=300,
    log_records=5_000,
    codec_calls=20,
    attack_share=0.004,
)


def chosen_effort() -> Effort:
    """``LARGE`` if the environment has ``MONSTERMQ_BENCH``."""
    return LARGE if os.environ.get("MONSTERMQ_BENCH") else SMALL


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must reach, from the side that its metric says."""

    value: float
    of_mosquitto: bool = False
    """``value`` is a multiple of mosquitto's figure in the same run."""

    def limit(self, peer: float | None) -> float | None:
        """The figure to reach; None if that takes a peer's figure that is not there."""
        if not self.of_mosquitto:
            return self.value
        return self.value * peer if peer else None


def times(value: float) -> Bound:
    """``value`` times mosquitto."""
    return Bound(value, of_mosquitto=True)


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times the pure form's figure the compiled one's has to be."""

    required: float
    aim: float


SHARE = "of TCP"
"""The unit of shares: how one broker's share compares with another's tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table."""

    name: str
    title: str
    unit: str
    smaller_is_better: bool = False
    """As with times and sizes; of rates and shares, more is better."""
    required: Bound | None = None
    aim: Bound | None = None
    gain: Gain | None = None
    """What compiling is worth; of rates only."""
    rests_on: Sequence[str] = ()
    """Names in ``Outcome.busy``: it is void with any of them. Empty for its own name."""

    @property
    def is_compared(self) -> bool:
        """Whether it is set against mosquitto's figure, required or not."""
        return self.required is None or self.required.of_mosquitto

    @property
    def measurements(self) -> Sequence[str]:
        """Names in ``Outcome.busy`` of what decides whether it is void."""
        return self.rests_on or (self.name,)

    def is_met(self, bound: Bound, figure: float, peer: float | None) -> bool | None:
        """Whether ``figure`` reaches ``bound``; None if a peer's figure is needed and missing."""
        limit = bound.limit(peer)
        if limit is None:
            return None
        return figure <= limit if self.smaller_is_better else figure >= limit


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one run of a scenario found."""

    figures: dict[str, float]
    """By the name of the metric."""
    busy: dict[str, Busy] = field(default_factory=dict)
    """While something was measured, where the generator could be the limit: by the metric's name,
    or another one for what is only a part of a metric."""
    problems: list[str] = field(default_factory=list)
    """What must not be: lost, doubled or wrong messages."""

    def is_void(self, metric: Metric) -> bool:
        """Whether the generator was too slow to tell anything about the broker."""
        return any(self.busy[name].is_void() for name in metric.measurements if name in self.busy)


Run = Callable[[Running, Effort], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the table that are measured together."""

    name: str
    metrics: Sequence[Metric]
    configuration: str
    once: bool = False
    """Long enough not to be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(Rows):
    """A load, and the broker's profile under it."""

    run: Run
    profile: Profile = Profile.ROUTING
    ceiling: Run | None = None
    """The same work against the null broker, as far as it can; None if rates play no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack(Scenario):
    """A load that is to harm nobody else: its figures are the waits of others meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(Rows):
    """A part of ours by itself: neither a broker nor a generator is there."""

    run: Callable[[Effort], Outcome]
