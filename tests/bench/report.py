"""Tables of all brokers' median runs: one for the terminal, with what was required and whether a
figure counts, and one for readers."""

import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from tests.bench.brokers import Mosquitto, NullBroker
from tests.bench.busy import NO_TIME_LEFT
from tests.bench.forms import Form
from tests.bench.model import SHARE, Bound, Component, Metric, Outcome, Scenario

_SMALL = 0.2
"""A ratio below has a digit more."""

_TIMES, _NOTHING = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

WAITS = ("message", "ping", "health", "stored", "lateness")
"""Names of the figures of an attack, in milliseconds, in the order of the table's columns."""

_BROKERS = (Mosquitto.name, Form.COMPILED.broker, Form.PURE.broker)


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

    def ceiling(self, metric: Metric) -> Outcome | None:
        """The best run against the null broker, or None without any."""
        runs = self._by_figure(NullBroker.name, metric)
        return runs[-1] if runs else None

    def median(self, broker: str, metric: Metric) -> Outcome | None:
        """The run whose figure is the median one, or None without any.

        Of an even number it is the one below the middle: what is said about a figure, such as who
        was busy meanwhile, is about one run and never a mean of two.
        """
        runs = self._by_figure(broker, metric)
        return runs[(len(runs) - 1) // 2] if runs else None

    def _by_figure(self, broker: str, metric: Metric) -> list[Outcome]:
        runs = [run for run in self.outcomes.get(broker, ()) if metric.name in run.figures]
        return sorted(runs, key=lambda run: run.figures[metric.name])


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _figure(value: float | None, metric: Metric) -> str:
    return _NOTHING if value is None else f"{_number(value)} {metric.unit}"


def _bound(bound: Bound | None, metric: Metric) -> str:
    if bound is None:
        return ""
    if bound.of_mosquitto and bound.value == 1:
        return "no worse than mosquitto"
    at_most = "at most " if metric.smaller_is_better else ""
    if bound.of_mosquitto:
        return f"{at_most}{bound.value:g} {_TIMES} mosquitto"
    return f"{at_most}{_number(bound.value)} {metric.unit}"


def _shares(run: Outcome | None, measurement: str) -> str:
    if run is None or measurement not in run.busy:
        return _NOTHING
    busy = run.busy[measurement]
    return f"{busy.generator:.2f} / {busy.broker:.2f}"


def _verdict(metric: Metric, ours: float | None, peer: float | None) -> str:
    if ours is None:
        return ""
    ratio = _times(ours / peer) if metric.is_compared and peer else ""
    if metric.required is None:
        return ratio
    required = metric.is_met(metric.required, ours, peer)
    if required is None:
        return ratio
    word = "met" if required else "MISSED"
    if required and metric.aim is not None and metric.is_met(metric.aim, ours, peer):
        word = "aim met"
    return f"{ratio} {word}".strip()


def _gain(metric: Metric, compiled: float | None, pure: float | None) -> str:
    if compiled is None or not pure or metric.unit == SHARE:
        return ""
    ratio = compiled / pure
    told = _times(ratio)
    if metric.gain is None:
        return told
    word = "met" if ratio >= metric.gain.required else "MISSED"
    return f"{told} {'aim met' if ratio >= metric.gain.aim else word}"


def _bounds(bound: Bound | None, gain: float | None, metric: Metric) -> str:
    told = [_bound(bound, metric)] if bound else []
    if gain is not None:
        told.append(f"{gain:g} {_TIMES} pure")
    return "; ".join(told)


def _row(samples: Samples, metric: Metric) -> str:
    """What is required of our broker, the compiled form has to reach if it is there."""
    runs = [samples.median(broker, metric) for broker in _BROKERS]
    peer, compiled, pure = (None if run is None else run.figures[metric.name] for run in runs)
    void = [run is not None and run.is_void(metric) for run in runs]
    peer_void, compiled_void, pure_void = void
    ours, ours_void = (pure, pure_void) if compiled is None else (compiled, compiled_void)
    against_peer = ours_void or (peer_void and metric.is_compared)
    against_pure = compiled is not None and pure is not None and (compiled_void or pure_void)
    limit = "at most " if metric.smaller_is_better else "at least "
    gain = metric.gain
    cells = (
        metric.title,
        *(
            (limit if is_void else "") + _figure(value, metric)
            for value, is_void in zip((peer, compiled, pure), void, strict=True)
        ),
        "VOID" if against_peer else _verdict(metric, ours, peer),
        "VOID" if against_pure else _gain(metric, compiled, pure),
        _bounds(metric.required, gain.required if gain else None, metric),
        _bounds(metric.aim, gain.aim if gain else None, metric),
        samples.scenario.configuration,
    )
    return f"| {' | '.join(cells)} |"


def ceiling_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The generator against the null broker, and how busy both were."""
    yield "| scenario | generator's own ceiling | busy: generator / null broker |"
    yield "|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            best = samples.ceiling(metric)
            if best is not None and not metric.smaller_is_better:
                figure = _figure(best.figures[metric.name], metric)
                shares = _shares(best, metric.name)
                yield f"| {samples.scenario.name}: {metric.name} | {figure} | {shares} |"


def busy_lines(every: Sequence[Samples]) -> Iterator[str]:
    """What decides whether a figure is void, for whoever wants to check it."""
    yield (
        f"Busy, of a core, in the run of the figure above (void: generator {NO_TIME_LEFT:g} or "
        f"more, broker less than {NO_TIME_LEFT:g}):"
    )
    yield ""
    yield f"| figure (measured with it) | {' | '.join(f'generator / {one}' for one in _BROKERS)} |"
    yield "|---|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            yield from _busy_rows(samples, metric)


def _busy_rows(samples: Samples, metric: Metric) -> Iterator[str]:
    runs = [samples.median(broker, metric) for broker in _BROKERS]
    for name in metric.measurements:
        if any(run is not None and name in run.busy for run in runs):
            part = "" if name == metric.name else f" ({name})"
            shares = " | ".join(_shares(run, name) for run in runs)
            yield f"| {samples.scenario.name}: {metric.name}{part} | {shares} |"


def table_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The table, and below it whatever must not have happened."""
    yield (
        f"| scenario | {' | '.join(_BROKERS)} | by mosquitto, or figure | compiled by pure "
        "| required | aim | configuration |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            yield _row(samples, metric)
    yield from _problem_lines(every)


def document_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The table of ``docs/performance.md``: what was found, without what was required."""
    peer, compiled, pure = _BROKERS
    yield (
        f"| scenario | {compiled} | {pure} | {peer} | compiled by pure | by mosquitto "
        "| configuration |"
    )
    yield "|---|---|---|---|---|---|---|"
    for samples in every:
        for metric in samples.scenario.metrics:
            yield _document_row(samples, metric)


def _document_row(samples: Samples, metric: Metric) -> str:
    """A figure that the generator limited is only a bound, and so is a ratio with it.

    It is the compiled form that is set against mosquitto, if it is there.
    """
    peer, compiled, pure = (samples.median(broker, metric) for broker in _BROKERS)
    cells = (
        metric.title,
        *(_bounded(run, metric) for run in (compiled, pure, peer)),
        _ratio(compiled, pure, metric),
        _ratio(compiled or pure, peer, metric),
        samples.scenario.configuration,
    )
    return f"| {' | '.join(cells)} |"


def _limits(metric: Metric) -> tuple[str, str]:
    """What stands before a figure, or a ratio, that is or has too little because of another."""
    limits = ("at least ", "at most ")
    return limits[::-1] if metric.smaller_is_better else limits


def _bounded(run: Outcome | None, metric: Metric) -> str:
    if run is None:
        return _NOTHING
    limit = _limits(metric)[0] if run.is_void(metric) else ""
    return limit + _figure(run.figures[metric.name], metric)


def _ratio(ours: Outcome | None, theirs: Outcome | None, metric: Metric) -> str:
    if ours is None or theirs is None or metric.unit == SHARE or not theirs.figures[metric.name]:
        return _NOTHING
    low, high = _limits(metric)
    ours_void, theirs_void = ours.is_void(metric), theirs.is_void(metric)
    if ours_void and theirs_void:
        return _NOTHING
    limit = low if ours_void else high if theirs_void else ""
    return limit + _times(ours.figures[metric.name] / theirs.figures[metric.name])


def _times(ratio: float) -> str:
    return f"{ratio:.{1 if ratio >= _SMALL else 2}f} {_TIMES}"


def canary_lines(every: Sequence[Samples]) -> Iterator[str]:
    """The table "canary under attack": what others waited for, by cause."""
    yield (
        "Canary under attack: the worst wait of another pair's messages (one each 100 ms), of "
        "PINGREQ and of `GET /health`; required: at most 250 ms, aim: 100 ms. Stored: of PUBACK "
        "for a message to a session that is away. Late: what the machine alone made it wait."
    )
    yield ""
    yield "| cause | message | ping | `/health` | stored | late | verdict | took |"
    yield "|---|---|---|---|---|---|---|---|"
    for samples in every:
        yield _canary_row(samples)
    yield from _problem_lines(every)


def _canary_row(samples: Samples) -> str:
    """The worst of all runs: a wait that came once can come again."""
    runs = [run for runs in samples.outcomes.values() for run in runs if run.figures]
    worst = (
        {name: max(run.figures[name] for run in runs) for name in runs[0].figures} if runs else {}
    )
    verdicts = {
        _verdict(metric, worst.get(metric.name), None)
        for metric in samples.scenario.metrics
        if metric.required is not None
    }
    verdict = next((word for word in ("MISSED", "met", "aim met") if word in verdicts), _NOTHING)
    waits = [f"{worst[name]:,.0f} ms" if runs else _NOTHING for name in WAITS]
    took = f"{worst['took']:,.1f} s" if runs else _NOTHING
    cells = (samples.scenario.metrics[0].title, *waits, verdict, took)
    return f"| {' | '.join(cells)} |"


def _problem_lines(every: Sequence[Samples]) -> Iterator[str]:
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


def write_table(path: Path, every: Sequence[Samples]) -> None:
    """The table for readers as Markdown, to be put between the markers of the document."""
    path.write_text("\n".join(document_lines(every)) + "\n", encoding="utf-8")


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
