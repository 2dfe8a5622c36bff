"""Every scenario runs, small, against the real broker, and nothing is lost. Time is no matter."""

import importlib
from dataclasses import replace

import pytest
from tests.bench.__main__ import COMPONENTS, SCENARIOS
from tests.bench.brokers import MonsterMQ, NullBroker
from tests.bench.model import SMALL, Bound, Metric, Scenario, times
from tests.bench.report import Samples, ceiling_lines, table_lines

pytestmark = pytest.mark.integration

MEASURED = pytest.mark.parametrize("scenario", SCENARIOS, ids=[one.name for one in SCENARIOS])


@MEASURED
def test_everything_acknowledged_is_delivered_and_kept(scenario: Scenario) -> None:
    with MonsterMQ().run(scenario.profile) as running:
        outcome = scenario.run(running, SMALL)
    assert outcome.problems == []
    assert {metric.name for metric in scenario.metrics} <= set(outcome.figures)


@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if one.ceiling], ids=lambda one: one.name
)
def test_the_generator_has_a_ceiling_where_a_rate_is_compared(scenario: Scenario) -> None:
    assert scenario.ceiling is not None
    with NullBroker().run() as running:
        outcome = scenario.ceiling(running, SMALL)
    assert outcome.problems == []
    assert all(ceiling > 0 for ceiling in outcome.figures.values())


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_benchmark_of_a_module_reports(component: str) -> None:
    lines: list[str] = importlib.import_module(f"tests.bench.{component}").run(False)
    assert lines


def _samples(required: Bound, *, mosquitto: float, ours: float, ceiling: float) -> Samples:
    metric = Metric(name="rate", title="rate", unit="msg/s", required=required)
    samples = Samples(replace(SCENARIOS[0], metrics=(metric,)), ceilings={"rate": ceiling})
    samples.add("mosquitto", {"rate": mosquitto}, [])
    samples.add("MonsterMQ", {"rate": ours}, [])
    return samples


def test_a_figure_near_the_generators_ceiling_is_void() -> None:
    *_, row = table_lines([_samples(times(2), mosquitto=100, ours=700, ceiling=1000)])
    assert "VOID" in row


def test_a_peer_near_the_ceiling_voids_only_a_comparison_with_it() -> None:
    compared = _samples(times(2), mosquitto=700, ours=100, ceiling=1000)
    alone = _samples(Bound(50), mosquitto=700, ours=100, ceiling=1000)
    rows = list(table_lines([compared, alone]))[2:]
    assert "VOID" in rows[0]
    assert "VOID" not in rows[1]
    assert "at least 700" in rows[1]


def test_a_figure_below_what_is_required_is_called_missed() -> None:
    *_, row = table_lines([_samples(times(2), mosquitto=100, ours=150, ceiling=9000)])
    assert "MISSED" in row


def test_ceilings_and_problems_are_printed() -> None:
    samples = _samples(times(2), mosquitto=100, ours=250, ceiling=9000)
    samples.add("MonsterMQ", {}, ["3 delivered of 4 promised"])
    assert any("9,000 msg/s" in line for line in ceiling_lines([samples]))
    assert any("3 delivered of 4 promised" in line for line in table_lines([samples]))
