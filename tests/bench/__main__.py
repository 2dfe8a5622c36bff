"""``python -m tests.bench``: run the scenarios against both brokers and print one table.

Without ``MONSTERMQ_BENCH`` in the environment everything is tiny and only shows that it works.
"""

import argparse
import importlib
import importlib.util
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import (
    scenarios_connections,
    scenarios_durable,
    scenarios_latency,
    scenarios_routing,
)
from tests.bench.brokers import Broker, MonsterMQ, Mosquitto, NullBroker
from tests.bench.channels import Closed
from tests.bench.model import LARGE, Effort, Outcome, Scenario, chosen_effort
from tests.bench.report import (
    Samples,
    ceiling_lines,
    heading_lines,
    table_lines,
    write_json,
)

SCENARIOS: tuple[Scenario, ...] = (
    *scenarios_routing.SCENARIOS,
    *scenarios_connections.SCENARIOS,
    *scenarios_latency.SCENARIOS,
    *scenarios_durable.SCENARIOS,
)
CEILING_S = 1.0
COMPONENTS = ("topics_bench", "store_bench", "codec_bench")
BROKERS: dict[str, tuple[Broker, ...]] = {
    "mosquitto": (Mosquitto(),),
    "monstermq": (MonsterMQ(),),
    "both": (Mosquitto(), MonsterMQ()),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a message was lost or a row is missing."""
    options = _parse(arguments)
    _raise_descriptor_limit()
    effort = _effort(options)
    chosen = [scenario for scenario in SCENARIOS if _is_chosen(scenario.name, options.only)]
    brokers = BROKERS[options.broker]
    every = [Samples(scenario) for scenario in chosen]
    for samples in every:
        _measure_ceiling(samples, replace(effort, seconds=min(effort.seconds, CEILING_S)))
    versions = [f"Python {sys.version.split()[0]}", *(broker.version() for broker in brokers)]
    _print(heading_lines(versions), [""], ceiling_lines(every))
    for samples in every:
        _measure(samples, brokers, effort)
    _print([""], table_lines(every))
    for component in COMPONENTS:
        if _is_chosen(component, options.only):
            _print(_component_lines(component, large=effort.repeats > 1))
    if options.json:
        write_json(options.json, every, versions)
    return 1 if any(samples.problems for samples in every) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="scenarios with NAME in their name"
    )
    parser.add_argument("--broker", choices=BROKERS, default="both")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--repeats", type=int, help="measurements of each broker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    return parser.parse_args(arguments)


def _effort(options: argparse.Namespace) -> Effort:
    effort = chosen_effort()
    if options.seconds:
        sustained_s = min(effort.sustained_s, options.seconds * LARGE.sustained_s / LARGE.seconds)
        effort = replace(effort, seconds=options.seconds, sustained_s=sustained_s)
    if options.repeats:
        effort = replace(effort, repeats=options.repeats)
    return effort


def _is_chosen(name: str, only: Sequence[str] | None) -> bool:
    return not only or any(part in name for part in only)


def _raise_descriptor_limit() -> None:
    """The brokers inherit it: 10,000 connections need as many descriptors on each side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure_ceiling(samples: Samples, effort: Effort) -> None:
    """The best of several short runs: a ceiling is what the generator can do undisturbed."""
    if samples.scenario.ceiling is None:
        return
    for _ in range(effort.repeats):
        with NullBroker().run() as running:
            found = samples.scenario.ceiling(running, effort).figures
        for name, figure in found.items():
            samples.ceilings[name] = max(figure, samples.ceilings.get(name, 0.0))


def _measure(samples: Samples, brokers: Sequence[Broker], effort: Effort) -> None:
    """Every broker in turn, as often as it is repeated, each time a fresh process."""
    scenario = samples.scenario
    able = [broker for broker in brokers if broker.supports(scenario.profile)]
    for _ in range(1 if scenario.once else effort.repeats):
        for broker in able:
            outcome = _run_once(scenario, broker, effort)
            samples.add(broker.name, outcome.figures, outcome.problems)
            told = ", ".join(f"{name} {figure:,.2f}" for name, figure in outcome.figures.items())
            print(f"{scenario.name}, {broker.name}: {told}", file=sys.stderr, flush=True)


def _run_once(scenario: Scenario, broker: Broker, effort: Effort) -> Outcome:
    """A run that cannot go on is a problem of this run, not the end of all others."""
    with broker.run(scenario.profile) as running:
        try:
            return scenario.run(running, effort)
        except (Closed, ValueError, RuntimeError, OSError, sqlite3.Error) as error:
            return Outcome({}, [f"{type(error).__name__}: {error}; {running.last_words()}"])


def _component_lines(name: str, *, large: bool) -> Iterator[str]:
    """What a benchmark of one module of ours has to say."""
    module = f"tests.bench.{name}"
    if importlib.util.find_spec(module) is None:
        return
    run: Callable[[bool], list[str]] = importlib.import_module(module).run
    yield ""
    yield from run(large)


def _print(*parts: Sequence[str] | Iterator[str]) -> None:
    for part in parts:
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
