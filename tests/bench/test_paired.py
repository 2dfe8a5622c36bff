"""Two trees are measured in turn, and what is said of them follows from their pairs."""

from pathlib import Path

import pytest
from tests.bench.__main__ import chosen_scenarios
from tests.bench.brokers import REPOSITORY
from tests.bench.busy import Busy
from tests.bench.forms import Form, forms
from tests.bench.model import Outcome, Scenario
from tests.bench.paired import Pair, lines, main

pytestmark = pytest.mark.integration


def _scenario() -> Scenario:
    (scenario,) = chosen_scenarios(["qos0-fan-in"])
    assert isinstance(scenario, Scenario)
    return scenario


def _run(rate: float, generator: float = 0.5) -> Outcome:
    busy = Busy(generator=generator, broker=0.6)
    return Outcome(figures={"rate": rate}, busy={"rate": busy})


def test_each_pair_gives_a_ratio_and_their_median_is_shown_with_its_spread() -> None:
    pairs = [Pair(_run(110), _run(100)), Pair(_run(90), _run(100)), Pair(_run(240), _run(200))]
    (line,) = lines(_scenario(), pairs)
    shown = "110.00 msg/s | 100.00 msg/s | 1.100 | 0.900 to 1.200 | more |"
    assert line == f"| qos0-fan-in: rate | {shown}  |"


def test_runs_that_the_generator_limits_are_counted() -> None:
    (line,) = lines(_scenario(), [Pair(_run(1, generator=0.99), _run(1))])
    assert line.endswith("| 1 of 2 |")


def test_a_pair_with_half_a_figure_is_no_pair() -> None:
    failed = Outcome(figures={}, problems=["it has ended"])
    assert list(lines(_scenario(), [Pair(_run(1), failed)])) == []
    (line,) = lines(_scenario(), [Pair(_run(1), failed), Pair(_run(3), _run(2))])
    assert "| 1.500 |" in line


def test_a_tree_is_compared_with_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONSTERMQ_BENCH", raising=False)
    rows = ["--only", "qos0-fan-in", "--only", "latency", "--pairs", "2", "--seconds", "0.05"]
    assert main(["--against", str(REPOSITORY), *rows]) == 0
    captured = capsys.readouterr()
    assert f"other: {REPOSITORY}" in captured.out
    assert "| qos0-fan-in: rate |" in captured.out
    assert "| latency: p99 |" in captured.out
    assert "qos0-fan-in: pair 2 of 2" in captured.err


def test_the_compiled_form_of_a_tree_is_compared_with_its_pure_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONSTERMQ_BENCH", raising=False)
    asked = ["--pure", "--only", "qos0-mixed", "--pairs", "1", "--seconds", "0.05"]
    if Form.COMPILED in forms():
        assert main(asked) == 0
        captured = capsys.readouterr()
        assert "other: MonsterMQ, pure" in captured.out
        assert "| qos0-mixed: cost |" in captured.out
    else:
        with pytest.raises(SystemExit):
            main(asked)
        assert "run `make compiled`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "{empty}"], "run `make setup`"),
        (["--against", str(REPOSITORY), "--only", "subscriptions"], "no row"),
        (["--against", str(REPOSITORY), "--only", "canary"], "no row"),
        (["--against", str(REPOSITORY), "--pairs", "0"], "write 1 or more"),
    ],
)
def test_what_cannot_be_compared_is_said_at_once(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([part.format(empty=tmp_path) for part in arguments])
    assert said in capsys.readouterr().err
