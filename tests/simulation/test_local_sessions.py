"""The session engine under chosen chaos: kills, lost connections, slow disks, slow clients.

A seed decides everything, so a failure is repeated by its number. More seeds than the default:
``MONSTERMQ_SIM_SEEDS=5000``, or a range such as ``MONSTERMQ_SIM_SEEDS=5000-9000``.
"""

from collections.abc import Callable

import pytest
from tests.simulation.broker import Build
from tests.simulation.world import simulate
from tests.support.chance import seeds
from tests.support.form import breaks_of, pure_only

from monstermq_shared.sessions import retained

BREAKS = breaks_of("tests.simulation.breaks")

SEEDS = 60

BREAK_SEEDS = 400
"""A broken rule must be found within so many seeds; most are in the first few."""


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages so small that short queues have several."""
    monkeypatch.setattr(retained, "PAGE_MESSAGES", 3)


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_every_promise_is_kept(seed: int) -> None:
    simulate(seed)


def _is_found(change: Callable[[Build], Build], seed: int) -> bool:
    try:
        simulate(seed, change=change)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_rule_is_found(change: Callable[[Build], Build]) -> None:
    assert any(_is_found(change, seed) for seed in range(BREAK_SEEDS))


@pure_only
def test_a_seed_decides_everything() -> None:
    """The same seed breaks the same rule at the same place."""
    change = BREAKS["open ids are not stored"]
    seed = next(seed for seed in range(BREAK_SEEDS) if _is_found(change, seed))
    outcomes = set()
    for _ in range(2):
        with pytest.raises(AssertionError) as caught:
            simulate(seed, change=change)
        outcomes.add(str(caught.value))
    assert len(outcomes) == 1
