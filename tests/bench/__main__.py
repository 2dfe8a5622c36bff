"""``python -m tests.bench``: run the scenarios against all brokers and print tables.

Ours is there twice if its compiled form is: compiled, and as pure Python.

Without ``MONSTERMQ_BENCH`` in the environment everything is tiny and only shows that it works.
"""

import argparse
import http.client
import logging
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
from tests.bench import (
    codec_bench,
    kafka_bench,
    queues_bench,
    scenarios_canary,
    scenarios_connections,
    scenarios_durable,
    scenarios_history,
    scenarios_ingress,
    scenarios_kafka,
    scenarios_kafka_archive,
    scenarios_kafka_kept,
    scenarios_kafka_million,
    scenarios_latency,
    scenarios_log_tools,
    scenarios_postgres,
    scenarios_projector,
    scenarios_queries,
    scenarios_routing,
    scenarios_topics,
    scenarios_writing,
    store_bench,
    topics_bench,
)
from tests.bench.brokers import Broker, MonsterMQ, Mosquitto, NullBroker, Profile
from tests.bench.channels import Closed
from tests.bench.forms import forms
from tests.bench.model import (
    LARGE,
    Attack,
    Component,
    Effort,
    Outcome,
    Run,
    Scenario,
    chosen_effort,
)
from tests.bench.report import (
    Samples,
    busy_lines,
    canary_lines,
    ceiling_lines,
    heading_lines,
    table_lines,
    write_json,
    write_table,
)

SCENARIOS: tuple[Scenario | Component, ...] = (
    *scenarios_routing.SCENARIOS,
    *scenarios_connections.SCENARIOS,
    *scenarios_latency.SCENARIOS,
    *scenarios_durable.SCENARIOS,
    *scenarios_postgres.SCENARIOS,
    *scenarios_history.SCENARIOS,
    *scenarios_queries.SCENARIOS,
    *scenarios_topics.SCENARIOS,
    *scenarios_writing.SCENARIOS,
    *scenarios_canary.SCENARIOS,
    # Their server lives on until the end.
    *scenarios_kafka.SCENARIOS,
    *scenarios_kafka_kept.SCENARIOS,
    *scenarios_kafka_million.SCENARIOS,
    *scenarios_projector.SCENARIOS,
    *scenarios_kafka_archive.SCENARIOS,
    *scenarios_ingress.SCENARIOS,
    *scenarios_log_tools.SCENARIOS,
)
CEILING_S = 1.0
MODULES: dict[str, Callable[[Effort], list[str]]] = {
    "topics_bench": topics_bench.run,
    "store_bench": store_bench.run,
    "codec_bench": codec_bench.run,
    "kafka_bench": kafka_bench.run,
    "queues_bench": queues_bench.run,
}
"""What else is printed about modules of ours; nothing is required of these figures."""
NAMES = {*MODULES, *(scenario.name for scenario in SCENARIOS)}
NULL, PEER = NullBroker(), Mosquitto()
OURS = {form: MonsterMQ(form=form) for form in forms()}
OWN = next(iter(OURS.values()))
"""Of the form of this tree, which is also that of components."""
BROKERS: dict[str, tuple[Broker, ...]] = {
    "mosquitto": (PEER,),
    "monstermq": (*OURS.values(),),
    **{str(form): (broker,) for form, broker in OURS.items()},
    "all": (PEER, *OURS.values()),
}
FAILURES = (
    Closed,
    ValueError,
    RuntimeError,
    OSError,
    http.client.HTTPException,
    sqlite3.Error,
    asyncpg.PostgresError,
    psutil.Error,
    subprocess.SubprocessError,
)
"""What a run raises that cannot go on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a message was lost or a row is missing."""
    options = _parse(arguments)
    # It tells of each retry.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    raise_descriptor_limit()
    effort = with_seconds(chosen_effort(), options.seconds)
    if options.repeats:
        effort = replace(effort, repeats=options.repeats)
    chosen = chosen_scenarios(options.only)
    brokers = BROKERS[options.broker]
    every = [Samples(scenario) for scenario in chosen]
    for samples in every:
        _measure_ceiling(samples, replace(effort, seconds=min(effort.seconds, CEILING_S)))
    python = f"Python {sys.version} in {sys.base_prefix}"
    versions = [python, *(broker.version() for broker in brokers)]
    _print(heading_lines(versions), [""], ceiling_lines(every))
    for samples in every:
        _measure(samples, brokers, effort)
    attacks = [samples for samples in every if isinstance(samples.scenario, Attack)]
    rows = [samples for samples in every if samples not in attacks]
    if rows:
        _print([""], table_lines(rows), [""], busy_lines(rows))
    if attacks:
        _print([""], canary_lines(attacks))
    for name, run in MODULES.items():
        if _is_chosen(name, options.only):
            _print([""], run(effort))
    if options.json:
        write_json(options.json, every, versions)
    if options.table:
        write_table(options.table, rows)
    return 1 if any(samples.problems() for samples in every) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="the scenario NAME, or those with NAME in their name; canary is all attacks",
    )
    parser.add_argument("--broker", choices=BROKERS, default="all")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--repeats", type=int, help="measurements of each broker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write the table of docs/performance.md to FILE"
    )
    return parser.parse_args(arguments)


def with_seconds(effort: Effort, seconds: float | None) -> Effort:
    """``effort`` with measurements of ``seconds``, if they are given."""
    if not seconds:
        return effort
    sustained_s = min(effort.sustained_s, seconds * LARGE.sustained_s / LARGE.seconds)
    return replace(effort, seconds=seconds, sustained_s=sustained_s)


def chosen_scenarios(only: Sequence[str] | None) -> list[Scenario | Component]:
    """Those that ``only`` names, or part of their name; attacks if that begins as all of theirs do.

    So "offline" is the row of that name, and no other that has it in its name, and "retained" are
    rows, and not the attacks with retained messages as well.
    """
    of_canary = [name for name in only or () if name.startswith("canary")]
    return [
        one
        for one in SCENARIOS
        if _is_chosen(one.name, of_canary if only and isinstance(one, Attack) else only)
    ]


def _is_chosen(name: str, only: Sequence[str] | None) -> bool:
    """Whether ``name`` is one of ``only``, or has one in it that is nobody's whole name."""
    return only is None or any(
        name == part or (part not in NAMES and part in name) for part in only
    )


def raise_descriptor_limit() -> None:
    """Raise it to what the system allows, for this process and the brokers it starts.

    10,000 connections need as many descriptors on each side.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure_ceiling(samples: Samples, effort: Effort) -> None:
    """Several short runs: a ceiling is the best that the generator can do undisturbed."""
    scenario = samples.scenario
    if isinstance(scenario, Scenario) and scenario.ceiling is not None:
        for _ in range(effort.repeats):
            samples.add(NULL.name, run_once(scenario.ceiling, NULL, Profile.ROUTING, effort))


def _measure(samples: Samples, brokers: Sequence[Broker], effort: Effort) -> None:
    """Everyone in turn, as often as it is repeated, each time a fresh process."""
    scenario = samples.scenario
    for _ in range(1 if scenario.once else effort.repeats):
        for broker, outcome in _outcomes(scenario, brokers, effort):
            samples.add(broker, outcome)
            told = ", ".join(f"{name} {figure:,.2f}" for name, figure in outcome.figures.items())
            print(f"{scenario.name}, {broker}: {told}", file=sys.stderr, flush=True)


def _outcomes(
    scenario: Scenario | Component, brokers: Sequence[Broker], effort: Effort
) -> Iterator[tuple[str, Outcome]]:
    """One run of each broker that can be compared; a component is ours alone.

    An attack has one form of ours, the first of them.
    """
    if isinstance(scenario, Component):
        if OWN in brokers:
            yield OWN.name, _run_component(scenario, effort)
        return
    if isinstance(scenario, Attack):
        brokers = [broker for broker in brokers if isinstance(broker, MonsterMQ)][:1]
    for broker in brokers:
        if broker.supports(scenario.profile):
            yield broker.name, run_once(scenario.run, broker, scenario.profile, effort)


def run_once(run: Run, broker: Broker, profile: Profile, effort: Effort) -> Outcome:
    """Measure a fresh process of ``broker``; what made that impossible is a problem in it."""
    with broker.run(profile) as running:
        try:
            return run(running, effort)
        except FAILURES as error:
            return _failed(f"{error!r}; {running.last_words()}")


def _run_component(component: Component, effort: Effort) -> Outcome:
    try:
        return component.run(effort)
    except FAILURES as error:
        return _failed(repr(error))


def _failed(why: str) -> Outcome:
    """A run that cannot go on is a problem of this run, not the end of all others."""
    return Outcome(figures={}, problems=[why])


def _print(*parts: Iterable[str]) -> None:
    for part in parts:
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
