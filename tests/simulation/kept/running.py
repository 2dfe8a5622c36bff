"""Seeds in several processes: a simulation is nothing but computing."""

import gc
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import islice

from tests.simulation.kept.steps import simulate

CHUNK = 25
"""Seeds that a process takes at once."""


def processes() -> ProcessPoolExecutor:
    """Return as many processes as there are cores. They are started anew, so share nothing."""
    return ProcessPoolExecutor(
        os.cpu_count() or 1, multiprocessing.get_context("spawn"), initializer=gc.disable
    )


def failures(executor: Executor, name: str, seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield (seed, what is broken) of all seeds of a configuration that fail."""
    chunks = [*_chunks(seeds)]
    for found in executor.map(_failures, [name] * len(chunks), chunks):
        yield from found


def _chunks(seeds: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(seeds)
    while chunk := [*islice(rest, CHUNK)]:
        yield chunk


def _failures(name: str, seeds: Sequence[int]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for seed in seeds:
        try:
            simulate(name, seed)
        except AssertionError as exc:
            found.append((seed, str(exc) or repr(exc)))
    gc.collect()
    return found


def first_failure(name: str, seeds: Iterable[int]) -> int | None:
    """Return the first seed of a configuration that fails, in this process."""
    return next((seed for seed in seeds if _failures(name, [seed])), None)
