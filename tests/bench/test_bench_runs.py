"""Every scenario runs, small, against the real broker, and nothing is lost. Time is no matter."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.bench.__main__ import MODULES, SCENARIOS, main
from tests.bench.brokers import MonsterMQ, NullBroker
from tests.bench.busy import Busy
from tests.bench.model import SMALL, Bound, Component, Metric, Outcome, Scenario, times
from tests.bench.report import Samples, busy_lines, ceiling_lines, table_lines

pytestmark = pytest.mark.integration

LOADS = [one for one in SCENARIOS if isinstance(one, Scenario)]
COMPONENTS = [one for one in SCENARIOS if isinstance(one, Component)]
GENERATOR_LIMITS = Busy(generator=0.97, broker=0.6)
BROKER_LIMITS = Busy(generator=0.76, broker=0.99)


def _assert_complete(outcome: Outcome, metrics: Sequence[Metric]) -> None:
    assert outcome.problems == []
    assert {metric.name for metric in metrics} <= set(outcome.figures)


@pytest.mark.parametrize("scenario", LOADS, ids=lambda one: one.name)
def test_everything_acknowledged_is_delivered_and_kept(scenario: Scenario) -> None:
    with MonsterMQ().run(scenario.profile) as running:
        outcome = scenario.run(running, SMALL)
    _assert_complete(outcome, scenario.metrics)
    if scenario.ceiling is not None:
        rates = [metric for metric in scenario.metrics if metric.unit in ("msg/s", "/s")]
        assert {name for metric in rates for name in metric.rests_on or [metric.name]} <= set(
            outcome.busy
        )


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: one.name)
def test_a_component_is_measured_without_a_broker(component: Component) -> None:
    _assert_complete(component.run(SMALL), component.metrics)


@pytest.mark.parametrize(
    "scenario", [one for one in LOADS if one.ceiling], ids=lambda one: one.name
)
def test_the_generator_has_a_ceiling_where_a_rate_is_compared(scenario: Scenario) -> None:
    assert scenario.ceiling is not None
    with NullBroker().run() as running:
        outcome = scenario.ceiling(running, SMALL)
    assert outcome.problems == []
    assert all(ceiling > 0 for ceiling in outcome.figures.values())


@pytest.mark.parametrize("module", MODULES)
def test_the_benchmark_of_a_module_reports(module: str) -> None:
    assert MODULES[module](SMALL)


@pytest.mark.parametrize(
    ("generator", "broker", "void"),
    [
        (0.97, 0.60, True),
        (0.90, 0.89, True),
        (1.00, 0.00, True),
        (0.76, 0.99, False),
        (0.95, 0.95, False),
        (0.90, 0.90, False),
        (0.95, 1.40, False),
        (0.89, 0.20, False),
        (0.00, 0.00, False),
    ],
)
def test_a_figure_is_void_if_only_the_generator_had_no_time_left(
    generator: float, broker: float, void: bool
) -> None:
    assert Busy(generator=generator, broker=broker).is_void() is void


def _metric(required: Bound | None, rests_on: Sequence[str] = ()) -> Metric:
    return Metric(name="rate", title="rate", unit="msg/s", required=required, rests_on=rests_on)


def _samples(metric: Metric, **figures: tuple[float, Busy]) -> Samples:
    """One run of each broker, by its name."""
    scenario = Component(
        name="some", metrics=[metric], configuration="", run=lambda _: Outcome(figures={})
    )
    samples = Samples(scenario)
    for broker, (figure, busy) in figures.items():
        samples.add(broker, Outcome(figures={"rate": figure}, busy={"rate": busy}))
    return samples


def test_what_the_generator_limits_is_void_however_much_it_is() -> None:
    samples = _samples(
        _metric(times(2)), mosquitto=(100, BROKER_LIMITS), MonsterMQ=(700, GENERATOR_LIMITS)
    )
    *_, row = table_lines([samples])
    assert "VOID" in row
    *_, row = busy_lines([samples])
    assert row == "| some: rate | 0.76 / 0.99 | 0.97 / 0.60 |"


def test_a_peer_that_the_generator_limits_voids_only_a_comparison_with_it() -> None:
    figures = {"mosquitto": (700.0, GENERATOR_LIMITS), "MonsterMQ": (100.0, BROKER_LIMITS)}
    required = (times(2), None, Bound(50))
    *_, compared, unrated, alone = table_lines(
        [_samples(_metric(bound), **figures) for bound in required]
    )
    assert "VOID" in compared
    assert "VOID" in unrated
    assert "VOID" not in alone
    assert "at least 700" in alone


def test_a_figure_of_several_measurements_is_void_with_any_of_them() -> None:
    samples = _samples(_metric(Bound(0.5), rests_on=("TCP", "rate")))
    outcome = Outcome(figures={"rate": 0.7}, busy={"TCP": GENERATOR_LIMITS, "rate": BROKER_LIMITS})
    samples.add("MonsterMQ", outcome)
    *_, row = table_lines([samples])
    assert "VOID" in row


def test_the_middle_of_all_runs_decides() -> None:
    samples = _samples(_metric(Bound(50)))
    for busy in (GENERATOR_LIMITS, BROKER_LIMITS, BROKER_LIMITS):
        samples.add("MonsterMQ", Outcome(figures={"rate": 100}, busy={"rate": busy}))
    *_, row = table_lines([samples])
    assert "VOID" not in row


def test_a_figure_below_what_is_required_is_called_missed() -> None:
    samples = _samples(
        _metric(times(2)), mosquitto=(100, BROKER_LIMITS), MonsterMQ=(150, BROKER_LIMITS)
    )
    *_, row = table_lines([samples])
    assert "MISSED" in row


def test_ceilings_and_problems_are_printed() -> None:
    samples = _samples(_metric(times(2)), null=(9000, GENERATOR_LIMITS))
    samples.add("null", Outcome(figures={"rate": 8000}, problems=["3 delivered of 4 promised"]))
    assert any("9,000 msg/s" in line for line in ceiling_lines([samples]))
    assert any("3 delivered of 4 promised" in line for line in table_lines([samples]))


def test_a_row_without_a_broker_is_in_the_table_and_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONSTERMQ_BENCH", raising=False)
    path = tmp_path / "figures.json"
    assert main(["--only", "subscriptions", "--broker", "monstermq", "--json", str(path)]) == 0
    (match,) = (line for line in capsys.readouterr().out.splitlines() if "match, uncached" in line)
    assert "150 k topics/s" in match
    runs = json.loads(path.read_text(encoding="utf-8"))["scenarios"]["subscriptions"]["MonsterMQ"]
    assert [sorted(run["figures"]) for run in runs] == [["add", "match", "resident"]]
