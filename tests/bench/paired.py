"""``python -m tests.bench.paired``: is this tree faster or slower than another checkout?

Or than its own pure form, which is what ``--pure`` asks for. Rows of rates and latencies are
measured with the broker of this tree and that of the other in turn,
and each pair gives a ratio: what the machine does meanwhile hits both. The generator is this tree's
for both. Without ``MONSTERMQ_BENCH`` in the environment it only shows that it works.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.__main__ import chosen_scenarios, raise_descriptor_limit, run_once, with_seconds
from tests.bench.brokers import REPOSITORY, MonsterMQ
from tests.bench.forms import Form, forms
from tests.bench.model import Attack, Effort, Metric, Outcome, Scenario, chosen_effort

PAIRS = 7


class Pair(NamedTuple):
    """One run of each, one right after the other, in either order."""

    this: Outcome
    other: Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 1 if a message was lost or a figure is missing."""
    options = _parse(arguments)
    raise_descriptor_limit()
    effort = with_seconds(chosen_effort(), options.seconds)
    print(f"this:  {_described(REPOSITORY)}")
    print(f"other: {options.other.version() if options.pure else _described(options.against)}")
    print(f"{options.pairs} pairs of {effort.seconds:g} s each; ratio: this by other")
    print()
    print("| figure | this | other | ratio, median | lowest to highest | better | void |")
    print("|---|---|---|---|---|---|---|")
    problems: list[str] = []
    for scenario in options.scenarios:
        pairs = list(measured_pairs(scenario, options.other, effort, options.pairs))
        for line in lines(scenario, pairs):
            print(line, flush=True)
        found = (one for pair in pairs for run in pair for one in run.problems)
        problems += [f"{scenario.name}: {one}" for one in found]
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paired", description=__doc__)
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--against", type=Path, metavar="DIR", help="the other checkout, set up")
    other.add_argument("--pure", action="store_true", help="this tree, compiled against pure")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="the row NAME, or those with NAME in their name",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    options = parser.parse_args(arguments)
    options.other = _other(parser, options)
    options.scenarios = [
        one
        for one in chosen_scenarios(options.only)
        if isinstance(one, Scenario) and not isinstance(one, Attack)
    ]
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: write 1 or more")
    if not options.scenarios:
        parser.error("--only: no row that a broker is measured with has such a name")
    return options


def _other(parser: argparse.ArgumentParser, options: argparse.Namespace) -> MonsterMQ:
    if options.pure:
        if Form.COMPILED not in forms():
            parser.error("--pure: this tree is pure itself: run `make compiled`")
        return MonsterMQ(form=Form.PURE)
    options.against = options.against.resolve()
    program: Path = options.against / ".venv" / "bin" / "monstermq"
    if not program.is_file():
        parser.error(f"there is no {program}: run `make setup` in {options.against}")
    return MonsterMQ(program)


def _described(tree: Path) -> str:
    """The folder and, where git knows it, the commit."""
    told = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{tree} {told.stdout.strip()}".strip()


def measured_pairs(
    scenario: Scenario, other: MonsterMQ, effort: Effort, count: int
) -> Iterator[Pair]:
    """Run this tree's broker and the ``other`` in turn, each time a fresh process."""
    brokers = {"this": MonsterMQ(form=forms()[0]), "other": other}
    for number in range(1, count + 1):
        # Each is the first one in turn: the disk may still be busy with what ran before.
        order = sorted(brokers, reverse=number % 2 == 1)
        runs = {
            name: run_once(scenario.run, brokers[name], scenario.profile, effort) for name in order
        }
        print(f"{scenario.name}: pair {number} of {count}", file=sys.stderr, flush=True)
        yield Pair(**runs)


def lines(scenario: Scenario, pairs: Sequence[Pair]) -> Iterator[str]:
    """A row of the table for each of the scenario's figures, of the pairs that have it twice."""
    for metric in scenario.metrics:
        name = metric.name
        whole = [pair for pair in pairs if name in pair.this.figures and name in pair.other.figures]
        if whole:
            yield f"| {scenario.name}: {name} | {_cells(metric, whole)} |"


def _cells(metric: Metric, pairs: Sequence[Pair]) -> str:
    """Medians, ratio and its spread; a ratio only where the other's figure is not 0."""
    this = [pair.this.figures[metric.name] for pair in pairs]
    other = [pair.other.figures[metric.name] for pair in pairs]
    ratios = [ours / theirs for ours, theirs in zip(this, other, strict=True) if theirs]
    void = sum(run.is_void(metric) for pair in pairs for run in pair)
    cells = (
        f"{statistics.median(this):,.2f} {metric.unit}",
        f"{statistics.median(other):,.2f} {metric.unit}",
        f"{statistics.median(ratios):.3f}" if ratios else "",
        f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else "",
        "less" if metric.smaller_is_better else "more",
        f"{void} of {2 * len(pairs)}" if void else "",
    )
    return " | ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
