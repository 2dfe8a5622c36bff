"""The table: both brokers' medians, what was required, and whether a figure counts."""

import datetime as dt
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from tests.bench.brokers import MonsterMQ, Mosquitto, NullBroker
from tests.bench.busy import NO_TIME_LEFT, Busy
from tests.bench.model import Bound, Component, Metric, Outcome, Scenario

_TIMES, _NOTHING = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

_BROKERS = (Mosquitto.name, MonsterMQ.name)


@dataclass(slots=True)
class Samples:
    """What all runs of one scenario found."""

    scenario: Scenario | Component
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    """By broker, the null broker among them."""

    def add(self, broker: str, outcome: Outcome) -> None:
        """Note one run."""
        self.outcomes.setdefault(broker, []).append(outcome)

    def problems(self) -> list[str]:
        """What any run found wrong."""
        return [
            f"{self.scenario.name}, {broker}: {problem}"
            for broker, outcomes in self.outcomes.items()
            for outcome in outcomes
            for problem in outcome.problems
        ]

    def ceilings(self) -> dict[str, float]:
        """The best figures against the null broker, by metric."""
        best: dict[str, float] = {}
        for outcome in self.outcomes.get(NullBroker.name, ()):
            for name, figure in outcome.figures.items():
                best[name] = max(figure, best.get(name, 0.0))
        return best

    def median(self, broker: str, metric: str) -> float | None:
        """The middle one of a broker's figures, or None without any."""
        outcomes = self.outcomes.get(broker, ())
        figures = [one.figures[metric] for one in outcomes if metric in one.figures]
        return statistics.median(figures) if figures else None

    def busy(self, broker: str, measurement: str) -> Busy | None:
        """The middle ones of how busy generator and ``broker`` were, or None without any."""
        outcomes = self.outcomes.get(broker, ())
        found = [one.busy[measurement] for one in outcomes if measurement in one.busy]
        if not found:
            return None
        return Busy(
            generator=statistics.median(busy.generator for busy in found),
            broker=statistics.median(busy.broker for busy in found),
        )

    def measurements(self) -> list[str]:
        """What generator and broker were busy with, in the order of the first run."""
        runs = [one for broker in _BROKERS for one in self.outcomes.get(broker, ())]
        return list(dict.fromkeys(name for one in runs for name in one.busy))

    def is_void(self, broker: str, metric: Metric) -> bool:
        """Whether the generator was too slow to tell anything about ``broker``."""
        found = [self.busy(broker, name) for name in metric.rests_on or (metric.name,)]
        return any(busy is not None and busy.is_void() for busy in found)


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _figure(value: float | None, unit: str) -> str:
    return _NOTHING if value is None else f"{_number(value)} {unit}"


def _bound(bound: Bound | None, unit: str) -> str:
    if bound is None:
        return ""
    if bound.of_mosquitto:
        return "no worse than mosquitto" if bound.at_most else f"{bound.value:g} {_TIMES} mosquitto"
    return f"{'at most ' if bound.at_most else ''}{_number(bound.value)} {unit}"


def _shares(busy: Busy | None) -> str:
    if busy is None:
        return _NOTHING
    return f"{busy.generator:.2f} / {busy.broker:.2f}"


def _verdict(metric: Metric, ours: float | None, peer: float | None) -> str:
    if ours is None:
        return ""
    ratio = f"{ours / peer:.1f} {_TIMES}" if metric.is_compared and peer else ""
    if metric.required is None:
        return ratio
    required = metric.required.is_met(ours, peer)
    if required is None:
        return ratio
    word = "met" if required else "MISSED"
    if required and metric.aim is not None and metric.aim.is_met(ours, peer):
        word = "aim met"
    return f"{ratio} {word}".strip()


def _row(samples: Samples, metric: Metric) -> str:
    peer, ours = (samples.median(broker, metric.name) for broker in _BROKERS)
    peer_void, ours_void = (samples.is_void(broker, metric) for broker in _BROKERS)
    void = ours_void or (peer_void and metric.is_compared)
    cells = (
        metric.title,
        ("at least " if peer_void else "") + _figure(peer, metric.unit),
        _figure(ours, metric.unit),
        "VOID" if void else _verdict(metric, ours, peer),
        _bound(metric.required, metric.unit),
        _bound(metric.aim, metric.unit),
        samples.scenario.configuration,
    )
    return f"| {' | '.join(cells)} |"


def ceiling_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The generator against the null broker, and how busy both were."""
    yield "| scenario | generator's own ceiling | busy: generator / null broker |"
    yield "|---|---|---|"
    for samples in every:
        units = {metric.name: metric.unit for metric in samples.scenario.metrics}
        for name, ceiling in samples.ceilings().items():
            busy = _shares(samples.busy(NullBroker.name, name))
            yield f"| {samples.scenario.name}: {name} | {_figure(ceiling, units[name])} | {busy} |"


def busy_lines(every: Sequence[Samples]) -> Iterator[str]:
    """What decides whether a figure is void, for whoever wants to check it."""
    yield (
        f"Busy, of a core (void: generator {NO_TIME_LEFT:g} or more, broker less than "
        f"{NO_TIME_LEFT:g}):"
    )
    yield ""
    yield "| measured | generator / mosquitto | generator / MonsterMQ |"
    yield "|---|---|---|"
    for samples in every:
        for name in samples.measurements():
            shares = " | ".join(_shares(samples.busy(broker, name)) for broker in _BROKERS)
            yield f"| {samples.scenario.name}: {name} | {shares} |"


def table_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The table, and below it whatever must not have happened."""
    yield "| scenario | mosquitto | MonsterMQ | ratio or figure | required | aim | configuration |"
    yield "|---|---|---|---|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            yield _row(samples, metric)
    problems = [problem for samples in every for problem in samples.problems()]
    if problems:
        yield ""
        yield "**Wrong, whatever the speed:**"
        yield ""
        yield from (f"- {problem}" for problem in problems)


def heading_lines(versions: Sequence[str]) -> Iterator[str]:
    """When, on what and with which versions."""
    yield f"Date: {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"
    yield f"Machine: {os.cpu_count()} cores, {_cpu_model()}; files on {_file_system()}"
    yield f"Load before: {os.getloadavg()[0]:.1f} (over 0.5 others disturb the figures)"
    yield f"Versions: {'; '.join(versions)}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _file_system() -> str:
    folder = Path(tempfile.gettempdir()).resolve()
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if folder.is_relative_to(mount.mountpoint)
    ]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def write_json(path: Path, every: Sequence[Samples], versions: Sequence[str]) -> None:
    """Every run's figures, shares and problems, for whoever wants to compute something else."""
    content = {
        "date": dt.datetime.now(dt.UTC).isoformat(),
        "versions": list(versions),
        "scenarios": {
            samples.scenario.name: {
                broker: [asdict(outcome) for outcome in outcomes]
                for broker, outcomes in samples.outcomes.items()
            }
            for samples in every
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
