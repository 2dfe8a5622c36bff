"""A command of ours as a process: how long it takes, what it computes, how its memory grows."""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.bench.brokers import LAST_WORDS_SIZE

PATIENCE_S = 3600.0
LOOK_S = 0.05
SETTLED = 5
"""After this part of its time it has all that it needs in memory."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a command took.

    Attributes:
        elapsed_s: From its start to its end.
        processor_s: Of all its threads.
        growth_mib: The most memory that it had less the most in the first fifth of its time.
    """

    elapsed_s: float
    processor_s: float
    growth_mib: float


def run_command(arguments: Sequence[str], output: Path) -> Spent:
    """Run ``monstermq`` with its results in a file, to its end.

    Raises:
        RuntimeError: It has not done what it should.
    """
    program = Path(sys.executable).with_name("monstermq")
    notes = output.with_suffix(".notes")
    before_s, sizes = _children_s(), [0]
    with output.open("wb") as results, notes.open("wb") as errors:
        began = time.perf_counter()
        process = psutil.Popen(
            [str(program), *arguments], stdin=subprocess.DEVNULL, stdout=results, stderr=errors
        )
        while (code := _ended(process)) is None:
            sizes.append(process.memory_info().rss)
            if time.perf_counter() - began > PATIENCE_S:
                process.kill()
        elapsed_s = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(
            f"{arguments[0]} ended with {code}: {notes.read_text()[-LAST_WORDS_SIZE:]}"
        )
    settled = len(sizes) // SETTLED + 1
    growth = max(sizes) - max(sizes[:settled])
    return Spent(
        elapsed_s=elapsed_s,
        processor_s=_children_s() - before_s,
        growth_mib=growth / MIB,
    )


def _ended(process: psutil.Popen) -> int | None:
    """Its exit code, if it ends within a moment."""
    try:
        return int(process.wait(LOOK_S))
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return None


def _children_s() -> float:
    """What children have computed that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
