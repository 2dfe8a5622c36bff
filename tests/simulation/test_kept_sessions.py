"""Kept sessions over two edges, their workers, logs and database, under all faults there are.

A failure is repeated by its configuration and seed:
``python -c "from tests.simulation.kept.steps import simulate; simulate('whole', 17)"``. More seeds
of each: ``MONSTERMQ_SIM_SEEDS=10000``, or ``5000-9000``.
"""

from collections.abc import Iterator
from concurrent.futures import Executor

import pytest
from tests.simulation.kept.breaks import BREAKS
from tests.simulation.kept.configurations import CONFIGURATIONS
from tests.simulation.kept.ledger import Violation
from tests.simulation.kept.running import failures, first_failure, processes
from tests.simulation.kept.steps import Simulation
from tests.support.chance import seeds
from tests.support.form import pure_only

SEEDS = 300

SHOWN = 3
"""Failures of a configuration that are told."""


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """Processes for all tests."""
    with processes() as started:
        yield started


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_promise_is_kept(executor: Executor, name: str) -> None:
    found = failures(executor, name, seeds(SEEDS))
    told = "".join(f"\n{name}, seed {seed}: {broken}" for seed, broken in found[:SHOWN])
    assert not found, f"{len(found)} seeds fail: {told}"


@pure_only
@pytest.mark.parametrize("rule", BREAKS)
def test_a_rule_that_is_taken_out_is_missed(executor: Executor, rule: str) -> None:
    assert first_failure(executor, rule) is not None


def test_a_seed_decides_everything() -> None:
    """The same seed takes the same steps."""
    traces: list[list[str]] = []
    for _ in range(2):
        trace: list[str] = []
        simulation = Simulation("whole", 5, lambda _step, name: trace.append(name))  # noqa: B023
        simulation.run()
        traces.append(trace)
    assert traces[0] == traces[1]


@pure_only
def test_what_is_broken_is_told_by_its_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS["noapp"].take_out(monkeypatch)
    told = set[str]()
    for seed in range(BREAKS["noapp"].seeds):
        try:
            Simulation("q2in", seed).run()
        except Violation as exc:
            told.add(str(exc)[:2])
    assert told == {"b:"}
