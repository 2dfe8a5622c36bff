"""Every scenario runs, small, against the real broker, and nothing is lost. Time is no matter."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.bench.__main__ import MODULES, OURS, OWN, SCENARIOS, main
from tests.bench.brokers import MonsterMQ, NullBroker, Running, ThreadId
from tests.bench.busy import Busy, Stopwatch, busiest_s
from tests.bench.channels import TcpChannel
from tests.bench.forms import Form
from tests.bench.model import (
    SHARE,
    SMALL,
    Attack,
    Bound,
    Component,
    Gain,
    Metric,
    Outcome,
    Scenario,
    times,
)
from tests.bench.poller import Poller
from tests.bench.report import Samples, busy_lines, ceiling_lines, document_lines, table_lines

pytestmark = pytest.mark.integration

LOADS = [one for one in SCENARIOS if isinstance(one, Scenario) and not isinstance(one, Attack)]
COMPONENTS = [one for one in SCENARIOS if isinstance(one, Component)]
GENERATOR_LIMITS = Busy(generator=0.97, broker=0.6)
BROKER_LIMITS = Busy(generator=0.76, broker=0.99)
ACKNOWLEDGEMENT = b"\x40\x02\x00\x01"
LONG_S = 10.0


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


def test_each_form_of_this_tree_is_what_runs() -> None:
    """So is the pure one where the tree has libraries."""
    assert Form.PURE in OURS
    for form, broker in OURS.items():
        with broker.run() as running:
            assert form.start_line in running.last_words()
            assert _libraries(running) == (form is Form.COMPILED)


def _libraries(running: Running) -> bool:
    maps = Path(f"/proc/{running.process.pid}/maps").read_text(encoding="utf-8")
    return "monstermq__mypyc" in maps


def test_another_form_than_the_one_to_measure_is_refused() -> None:
    broker = MonsterMQ(form=next(iter(OURS)))
    broker.start_line = "(of clay), configuration:"
    with pytest.raises(RuntimeError, match="this is not MonsterMQ"), broker.run():
        pass


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
        (0.95, 1.00, False),
        (0.89, 0.20, False),
        (0.00, 0.00, False),
    ],
)
def test_a_figure_is_void_if_only_the_generator_had_no_time_left(
    generator: float, broker: float, void: bool
) -> None:
    assert Busy(generator=generator, broker=broker).is_void() is void


def test_threads_that_share_a_core_have_time_left() -> None:
    loop, writer = ThreadId(1, 1), ThreadId(1, 2)
    spent_s = busiest_s({loop: 3.0, writer: 5.0}, {loop: 3.6, writer: 5.35})
    assert spent_s == pytest.approx(0.6)


def test_threads_come_and_go_while_the_busiest_is_sought() -> None:
    lasting, ended, new = ThreadId(1, 1), ThreadId(1, 2), ThreadId(2, 3)
    assert busiest_s({lasting: 3.0, ended: 9.0}, {lasting: 3.5, new: 0.75}) == 0.75
    assert busiest_s({ended: 9.0}, {}) == 0.0
    assert busiest_s({ended: 9.0}, {ended: 0.5}) == 0.0


@pytest.fixture
def broker_with_children(tmp_path: Path) -> Iterator[Running]:
    """Two threads, a child process, and another one that has ended but was not waited for."""
    code = """
import os, subprocess, sys, threading
threading.Thread(target=sys.stdin.read).start()
wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
lasting, ended = subprocess.Popen(wait), subprocess.Popen(["true"])
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
print(lasting.pid, flush=True)
"""
    pipe = subprocess.PIPE
    with psutil.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        yield Running(process, {}, tmp_path / "none.db", tmp_path / "none.log")


def test_every_thread_of_a_broker_and_of_its_children_is_counted(
    broker_with_children: Running,
) -> None:
    process = broker_with_children.process
    child = int(process.stdout.readline())
    counted = broker_with_children.thread_times()
    assert len([one for one in counted if one.process == process.pid]) == 2
    assert len([one for one in counted if one.process == child]) == 1
    assert all(spent_s >= 0 for spent_s in counted.values())
    assert Stopwatch(broker_with_children).read().busy.broker >= 0


def test_a_broker_that_has_ended_is_not_taken_for_an_idle_one(
    broker_with_children: Running,
) -> None:
    process = broker_with_children.process
    process.communicate()
    with pytest.raises(psutil.NoSuchProcess):
        broker_with_children.thread_times()


class Arrived(Exception):
    """Ends a wait at once."""


@pytest.fixture
def poller() -> Iterator[Poller]:
    with closing(Poller()) as one:
        yield one


@pytest.fixture
def connected() -> Iterator[list[tuple[TcpChannel, TcpChannel]]]:
    """Two connections, each with its two ends."""
    with ExitStack() as stack:
        channels = [
            stack.enter_context(closing(TcpChannel(end)))
            for _ in range(2)
            for end in socket.socketpair()
        ]
        yield [(channels[0], channels[1]), (channels[2], channels[3])]


@pytest.mark.parametrize(
    "wait",
    [
        lambda poller: poller.turn(LONG_S),
        lambda poller: poller.run_until_time(time.perf_counter() + LONG_S),
    ],
    ids=["turn", "run_until_time"],
)
def test_what_was_answered_outside_a_turn_leaves_before_the_next_wait(
    wait: Callable[[Poller], object],
    poller: Poller,
    connected: list[tuple[TcpChannel, TcpChannel]],
) -> None:
    (near, far), _ = connected

    def stop() -> None:
        assert far.receive() == ACKNOWLEDGEMENT
        raise Arrived

    poller.add(near, lambda: None)
    poller.add(far, stop)
    poller.answer(near, ACKNOWLEDGEMENT)
    with pytest.raises(Arrived):
        wait(poller)


def test_an_answer_leaves_after_all_events_of_its_turn(
    poller: Poller, connected: list[tuple[TcpChannel, TcpChannel]]
) -> None:
    early: list[bytes] = []

    def answer(near: TcpChannel) -> None:
        near.receive()
        poller.answer(near, ACKNOWLEDGEMENT)
        early.extend(far.receive() for _, far in connected)

    for near, far in connected:
        poller.add(near, partial(answer, near))
        far.send(b"a message")
    poller.turn(0)
    assert early == [b""] * 4
    assert [far.receive() for _, far in connected] == [ACKNOWLEDGEMENT] * 2


def _metric(required: Bound | None) -> Metric:
    return Metric(name="rate", title="rate", unit="msg/s", required=required)


DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
COLUMNS = {"compiled": Form.COMPILED.broker, "pure": Form.PURE.broker}


def _samples(metric: Metric, **figures: tuple[float, Busy]) -> Samples:
    """One run of each broker, by its name; ours by that of its form."""
    scenario = Component(
        name="some", metrics=[metric], configuration="", run=lambda _: Outcome(figures={})
    )
    samples = Samples(scenario)
    for broker, (figure, busy) in figures.items():
        name = COLUMNS.get(broker, broker)
        samples.add(name, Outcome(figures={"rate": figure}, busy={"rate": busy}))
    return samples


def test_what_the_generator_limits_is_void_however_much_it_is() -> None:
    samples = _samples(
        _metric(times(2)), mosquitto=(100, BROKER_LIMITS), compiled=(700, GENERATOR_LIMITS)
    )
    *_, row = table_lines([samples])
    assert "VOID" in row
    *_, row = busy_lines([samples])
    assert row == "| some: rate | 0.76 / 0.99 | 0.97 / 0.60 | \N{EN DASH} |"


def test_a_peer_that_the_generator_limits_voids_only_a_comparison_with_it() -> None:
    figures = {"mosquitto": (700.0, GENERATOR_LIMITS), "compiled": (100.0, BROKER_LIMITS)}
    required = (times(2), None, Bound(50))
    *_, compared, unrated, alone = table_lines(
        [_samples(_metric(bound), **figures) for bound in required]
    )
    assert "VOID" in compared
    assert "VOID" in unrated
    assert "VOID" not in alone
    assert "at least 700" in alone


def test_a_figure_of_several_measurements_is_void_with_any_of_them() -> None:
    samples = _samples(replace(_metric(Bound(0.5)), rests_on=("TCP", "rate")))
    outcome = Outcome(figures={"rate": 0.7}, busy={"TCP": GENERATOR_LIMITS, "rate": BROKER_LIMITS})
    samples.add(Form.COMPILED.broker, outcome)
    *_, row = table_lines([samples])
    assert "VOID" in row
    *_, of_tcp, of_rate = busy_lines([samples])
    assert of_tcp == f"| some: rate (TCP) | {DASH} | 0.97 / 0.60 | {DASH} |"
    assert of_rate == f"| some: rate | {DASH} | 0.76 / 0.99 | {DASH} |"


def _samples_of_runs(*runs: tuple[float, Busy]) -> Samples:
    samples = _samples(_metric(Bound(50)))
    for rate, busy in runs:
        samples.add(Form.COMPILED.broker, Outcome(figures={"rate": rate}, busy={"rate": busy}))
    return samples


def test_the_run_with_the_median_figure_decides_and_its_shares_are_shown() -> None:
    """Taken apart, the medians would be 0.95 and 0.85: a pair that no run had, and void."""
    samples = _samples_of_runs(
        (100, Busy(generator=0.95, broker=0.99)),
        (300, Busy(generator=0.97, broker=0.50)),
        (200, Busy(generator=0.50, broker=0.85)),
    )
    *_, row = table_lines([samples])
    assert "| 200 msg/s | \N{EN DASH} | met |" in row
    *_, row = busy_lines([samples])
    assert "| 0.50 / 0.85 |" in row


def test_of_an_even_number_of_runs_the_one_below_the_middle_decides() -> None:
    samples = _samples_of_runs((300, BROKER_LIMITS), (100, GENERATOR_LIMITS))
    *_, row = table_lines([samples])
    assert "| at least 100 msg/s | \N{EN DASH} | VOID |" in row


def test_a_time_that_the_generator_limits_is_an_upper_bound_of_the_peers() -> None:
    metric = replace(_metric(times(1)), unit="ms", smaller_is_better=True)
    samples = _samples(metric, mosquitto=(5, GENERATOR_LIMITS), compiled=(4, BROKER_LIMITS))
    *_, row = table_lines([samples])
    assert "| at most 5.00 ms | 4.00 ms | \N{EN DASH} | VOID |  | no worse than mosquitto |" in row


@pytest.mark.parametrize(
    ("figure", "bound", "word"),
    [(4, Bound(5), "met"), (6, Bound(5), "MISSED"), (6, times(1), "MISSED"), (4, times(1), "met")],
)
def test_where_smaller_is_better_a_bound_is_not_to_be_exceeded(
    figure: float, bound: Bound, word: str
) -> None:
    metric = replace(_metric(bound), unit="ms", smaller_is_better=True)
    samples = _samples(metric, mosquitto=(5, BROKER_LIMITS), compiled=(figure, BROKER_LIMITS))
    *_, row = table_lines([samples])
    assert f"{word} |" in row


def test_a_figure_below_what_is_required_is_called_missed() -> None:
    samples = _samples(
        _metric(times(2)), mosquitto=(100, BROKER_LIMITS), compiled=(150, BROKER_LIMITS)
    )
    *_, row = table_lines([samples])
    assert "MISSED" in row


@pytest.mark.parametrize(
    ("gain", "told"),
    [(Gain(2, 2.5), "2.5 {} aim met"), (Gain(2, 3), "2.5 {} met"), (Gain(2.6, 3), "2.5 {} MISSED")],
)
def test_what_compiling_gains_is_told_and_judged(gain: Gain, told: str) -> None:
    metric = replace(_metric(times(2)), aim=times(9), gain=gain)
    brokers = {"compiled": (500.0, BROKER_LIMITS), "pure": (200.0, BROKER_LIMITS)}
    *_, row = table_lines([_samples(metric, mosquitto=(100, BROKER_LIMITS), **brokers)])
    assert f"| 500 msg/s | 200 msg/s | 5.0 {TIMES} met | {told.format(TIMES)} |" in row
    assert f"| 2 {TIMES} mosquitto; {gain.required:g} {TIMES} pure |" in row
    assert f"| 9 {TIMES} mosquitto; {gain.aim:g} {TIMES} pure |" in row


@pytest.mark.parametrize("limited", ["compiled", "pure"])
def test_what_compiling_gains_is_void_if_the_generator_limited_either_form(limited: str) -> None:
    brokers = {"compiled": (500.0, BROKER_LIMITS), "pure": (200.0, BROKER_LIMITS)}
    brokers[limited] = (300.0, GENERATOR_LIMITS)
    *_, row = table_lines([_samples(replace(_metric(None), gain=Gain(2, 3)), **brokers)])
    assert "at least 300 msg/s" in row
    assert "| VOID |" in row
    assert "met" not in row


def test_without_the_compiled_form_the_pure_one_is_judged() -> None:
    samples = _samples(_metric(times(2)), mosquitto=(100, BROKER_LIMITS), pure=(150, BROKER_LIMITS))
    *_, row = table_lines([samples])
    assert "1.5 \N{MULTIPLICATION SIGN} MISSED |  |" in row


@pytest.mark.parametrize(
    ("peer_busy", "our_busy", "cells"),
    [
        (
            BROKER_LIMITS,
            BROKER_LIMITS,
            f"100 msg/s | 50.00 msg/s | 200 msg/s | 2.0 {TIMES} | 0.5 {TIMES}",
        ),
        (
            GENERATOR_LIMITS,
            BROKER_LIMITS,
            f"100 msg/s | 50.00 msg/s | at least 200 msg/s | 2.0 {TIMES} | at most 0.5 {TIMES}",
        ),
        (
            BROKER_LIMITS,
            GENERATOR_LIMITS,
            f"at least 100 msg/s | 50.00 msg/s | 200 msg/s"
            f" | at least 2.0 {TIMES} | at least 0.5 {TIMES}",
        ),
        (
            GENERATOR_LIMITS,
            GENERATOR_LIMITS,
            f"at least 100 msg/s | 50.00 msg/s | at least 200 msg/s"
            f" | at least 2.0 {TIMES} | {DASH}",
        ),
    ],
    ids=["neither", "mosquitto's", "ours", "both"],
)
def test_readers_are_told_what_a_figure_of_the_generators_bounds(
    peer_busy: Busy, our_busy: Busy, cells: str
) -> None:
    samples = _samples(
        _metric(times(2)),
        mosquitto=(200, peer_busy),
        compiled=(100, our_busy),
        pure=(50, BROKER_LIMITS),
    )
    *_, row = document_lines([samples])
    assert row == f"| rate | {cells} |  |"


def test_readers_are_told_a_time_that_the_generator_bounds_the_other_way_round() -> None:
    metric = replace(_metric(None), unit="ms", smaller_is_better=True)
    samples = _samples(metric, mosquitto=(2, GENERATOR_LIMITS), compiled=(4, BROKER_LIMITS))
    *_, row = document_lines([samples])
    assert f"| 4.00 ms | {DASH} | at most 2.00 ms | {DASH} | at least 2.0 {TIMES} |" in row


def test_shares_have_no_ratio() -> None:
    metric = replace(_metric(None), unit=SHARE)
    samples = _samples(metric, mosquitto=(0.5, BROKER_LIMITS), compiled=(0.6, BROKER_LIMITS))
    *_, row = document_lines([samples])
    assert f"| 0.60 of TCP | {DASH} | 0.50 of TCP | {DASH} | {DASH} |" in row


def test_ceilings_and_problems_are_printed() -> None:
    samples = _samples(_metric(times(2)), null=(9000, GENERATOR_LIMITS))
    samples.add("null", Outcome(figures={"rate": 8000}, problems=["3 delivered of 4 promised"]))
    assert any("9,000 msg/s" in line for line in ceiling_lines([samples]))
    assert any("3 delivered of 4 promised" in line for line in table_lines([samples]))


def test_a_row_without_a_broker_is_in_the_table_and_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONSTERMQ_BENCH", raising=False)
    path, table = tmp_path / "figures.json", tmp_path / "table.md"
    chosen = ["--only", "subscriptions", "--broker", "monstermq"]
    assert main([*chosen, "--json", str(path), "--table", str(table)]) == 0
    (match,) = (line for line in capsys.readouterr().out.splitlines() if "match, uncached" in line)
    assert "150 k topics/s" in match
    runs = json.loads(path.read_text(encoding="utf-8"))["scenarios"]["subscriptions"][OWN.name]
    assert [sorted(run["figures"]) for run in runs] == [["add", "match", "resident"]]
    assert len(table.read_text(encoding="utf-8").splitlines()) == 2 + 3
