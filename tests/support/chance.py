"""Randomness that is new in every run, and can be had again."""

import os
import random

SEED_VARIABLE = "MONSTERMQ_FAULT_SEED"

SEEDS_VARIABLE = "MONSTERMQ_SIM_SEEDS"


def seeds(default: int) -> range:
    """Return the seeds of a simulation: so many, or those of ``MONSTERMQ_SIM_SEEDS``.

    That is a number of them, or a range such as ``5000-9000``.
    """
    first, _, end = os.environ.get(SEEDS_VARIABLE, str(default)).rpartition("-")
    return range(int(first or 0), int(end))


def drawn_random() -> random.Random:
    """Return a generator with a seed of the system's, or of ``MONSTERMQ_FAULT_SEED``.

    The seed is printed, so that pytest shows it when the test fails. What the processes under test
    do in the same moment is not repeated by it.
    """
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().getrandbits(32))
    print(f"the same dice again: {SEED_VARIABLE}={seed}")
    return random.Random(seed)
