"""The table: both brokers' medians, what was required, and whether a figure counts."""

import datetime as dt
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.bench.model import Bound, Metric, Scenario

_TIMES, _NOTHING = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

HEADROOM = 1.5
"""A figure over the ceiling divided by this is the generator's, not the broker's: void."""


@dataclass(slots=True)
class Samples:
    """What all repetitions of one scenario found."""

    scenario: Scenario
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By broker, then by metric."""
    ceilings: dict[str, float] = field(default_factory=dict)
    """By metric."""
    problems: list[str] = field(default_factory=list)

    def add(self, broker: str, figures: Mapping[str, float], problems: Sequence[str]) -> None:
        """Note one run."""
        of_broker = self.figures.setdefault(broker, {})
        for name, figure in figures.items():
            of_broker.setdefault(name, []).append(figure)
        self.problems += [f"{self.scenario.name}, {broker}: {problem}" for problem in problems]

    def median(self, broker: str, metric: str) -> float | None:
        """The middle one of a broker's figures, or None without any."""
        figures = self.figures.get(broker, {}).get(metric)
        return statistics.median(figures) if figures else None

    def is_void(self, broker: str, metric: Metric) -> bool:
        """Whether the generator was too slow to tell anything about ``broker``."""
        limited = metric.limited_with or metric.name
        figure, ceiling = self.median(broker, limited), self.ceilings.get(limited)
        return figure is not None and ceiling is not None and figure * HEADROOM > ceiling


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


def _verdict(metric: Metric, ours: float | None, peer: float | None) -> str:
    compared = metric.required is None or metric.required.of_mosquitto
    ratio = f"{ours / peer:.1f} {_TIMES}" if compared and ours is not None and peer else ""
    if ours is None or metric.required is None:
        return ratio
    required = metric.required.is_met(ours, peer)
    if required is None:
        return ratio
    word = "met" if required else "MISSED"
    if required and metric.aim is not None and metric.aim.is_met(ours, peer):
        word = "aim met"
    return f"{ratio} {word}".strip()


def _row(samples: Samples, metric: Metric) -> str:
    brokers = ("mosquitto", "MonsterMQ")
    peer, ours = (samples.median(broker, metric.name) for broker in brokers)
    peer_void = samples.is_void("mosquitto", metric)
    compared = metric.required is not None and metric.required.of_mosquitto
    void = samples.is_void("MonsterMQ", metric) or (peer_void and compared)
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
    """The generator against the null broker, one row for each scenario that can be void."""
    yield "| scenario | generator's own ceiling |"
    yield "|---|---|"
    for samples in every:
        units = {metric.name: metric.unit for metric in samples.scenario.metrics}
        for name, ceiling in samples.ceilings.items():
            yield f"| {samples.scenario.name}: {name} | {_figure(ceiling, units[name])} |"


def table_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The table, and below it whatever must not have happened."""
    yield "| scenario | mosquitto | MonsterMQ | ratio or figure | required | aim | configuration |"
    yield "|---|---|---|---|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            yield _row(samples, metric)
    problems = [problem for samples in every for problem in samples.problems]
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
    """Every single figure, for whoever wants to compute something else."""
    content = {
        "date": dt.datetime.now(dt.UTC).isoformat(),
        "versions": list(versions),
        "scenarios": {
            samples.scenario.name: {
                "figures": samples.figures,
                "ceilings": samples.ceilings,
                "problems": samples.problems,
            }
            for samples in every
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
