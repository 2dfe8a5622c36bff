"""The distributed engine under chosen chaos; see ``edges_world``.

A failure is repeated by its seed. More of them: ``MONSTERMQ_SIM_SEEDS=5000`` or ``5000-9000``.
"""

from collections.abc import Callable

import pytest
from tests.simulation.edges_world import simulate
from tests.simulation.test_local_sessions import BREAK_SEEDS, SEEDS
from tests.support.chance import seeds
from tests.support.edges import Bus, Edge
from tests.support.form import breaks_of

BREAKS = breaks_of("tests.simulation.edges_breaks")


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_every_promise_is_kept(seed: int) -> None:
    simulate(seed)


def _is_found(build: Callable[[Bus], Edge], seed: int) -> bool:
    try:
        simulate(seed, build)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("build", BREAKS.values(), ids=BREAKS)
def test_a_broken_rule_is_found(build: Callable[[Bus], Edge]) -> None:
    assert any(_is_found(build, seed) for seed in range(BREAK_SEEDS))
