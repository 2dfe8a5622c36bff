"""Seeds in several processes: a simulation is nothing but computing."""

import gc
import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from tests.simulation.kept.breaks import BREAKS
from tests.simulation.kept.steps import simulate

ROOT = str(Path(__file__).parents[3])

CHUNK = 25
"""Seeds that a process takes at once."""

Failure = tuple[int, str]
"""A seed, and what is broken."""


def processes() -> ProcessPoolExecutor:
    """Return as many processes as there are cores. They are started anew, and share nothing."""
    if ROOT not in sys.path:
        # They find modules where this process does; pytest may have found these otherwise.
        sys.path.append(ROOT)
    return ProcessPoolExecutor(
        os.cpu_count() or 1, multiprocessing.get_context("spawn"), initializer=_compute
    )


def _compute() -> None:
    """Prepare one of them: it takes what time others leave, such as tests with servers."""
    os.nice(10)
    gc.disable()


def failures(executor: Executor, name: str, seeds: Iterable[int]) -> list[Failure]:
    """Return all seeds of a configuration that fail."""
    chunks = [*_chunks(seeds)]
    return [each for found in executor.map(_run, [name] * len(chunks), chunks) for each in found]


def first_failure(executor: Executor, rule: str) -> Failure | None:
    """Return a seed that fails without a rule, where that must be found; None: there is none."""
    broken = BREAKS[rule]
    chunks = [*_chunks(range(broken.seeds))]
    # What was not begun when this is left is not done any more.
    for found in executor.map(_run_without, [rule] * len(chunks), chunks):
        if found:
            return found[0]
    return None


def _chunks(seeds: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(seeds)
    while chunk := [*islice(rest, CHUNK)]:
        yield chunk


def _run(name: str, seeds: Sequence[int]) -> list[Failure]:
    """Run seeds, in another process."""
    found: list[Failure] = []
    for seed in seeds:
        try:
            simulate(name, seed)
        except AssertionError as exc:
            found.append((seed, str(exc) or traceback.format_exc()))
        except Exception:  # noqa: BLE001 - whatever it is, it is told with its seed
            found.append((seed, traceback.format_exc()))
    gc.collect()
    return found


def _run_without(rule: str, seeds: Sequence[int]) -> list[Failure]:
    """Run seeds without a rule, in another process."""
    broken = BREAKS[rule]
    with pytest.MonkeyPatch.context() as patch:
        broken.take_out(patch)
        return _run(broken.configuration, seeds)
