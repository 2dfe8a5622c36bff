"""Every attack runs, small, against the real broker, and the canary outlives it."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from tests.bench.__main__ import SCENARIOS, chosen_scenarios, main
from tests.bench.attacks_questions import Asker, Question
from tests.bench.brokers import MonsterMQ, Profile, Running
from tests.bench.canary import Canary, Probe
from tests.bench.channels import Closed
from tests.bench.model import SMALL, Attack, Outcome
from tests.bench.report import WAITS, Samples, canary_lines
from tests.bench.stage import joined

pytestmark = pytest.mark.integration

ATTACKS = [one for one in SCENARIOS if isinstance(one, Attack)]
TINY = replace(SMALL, seconds=0.05)
PROBES = ("message", "ping", "health", "stored")


@pytest.fixture(scope="module")
def broker_with() -> Iterator[Callable[[Profile], Running]]:
    """One broker for all attacks on a profile: starting takes longer than a small attack."""
    brokers: dict[Profile, Running] = {}
    with ExitStack() as stack:

        def start(profile: Profile) -> Running:
            if profile not in brokers:
                brokers[profile] = stack.enter_context(MonsterMQ().run(profile))
            return brokers[profile]

        yield start


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_an_attack_is_worked_off_and_others_are_answered(
    attack: Attack, broker_with: Callable[[Profile], Running]
) -> None:
    outcome = attack.run(broker_with(attack.profile), TINY)
    assert outcome.problems == []
    assert {metric.name for metric in attack.metrics} | {"took"} == set(outcome.figures)


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (Question("no-such-tool", {}), "no-such-tool"),
        (Question("query-message-archive", {"topic": "a/#/b"}), "isError"),
        (Question("query-message-archive", {"topic": "nobody/was/here"}), "no rows"),
    ],
)
def test_a_question_without_an_answer_is_a_problem(
    question: Question, problem: str, broker_with: Callable[[Profile], Running]
) -> None:
    asker = Asker(broker_with(Profile.ASKED).mcp_port, itertools.repeat(question), 0)
    asker.run()
    assert asker.problem.startswith(f"{question.tool}: Failed(")
    assert problem in asker.problem


def test_a_broker_that_ends_is_a_problem_of_every_probe() -> None:
    with ExitStack() as broker:
        running = broker.enter_context(MonsterMQ().run(Profile.WATCHED))
        with Canary(running.port, running.operation_port) as canary:
            broker.close()
            waits = canary.stop()
    assert [problem.split(":")[0] for problem in waits.problems] == [
        f"canary's {name}" for name in PROBES
    ]


def _probe_that_sees(*waits_s: float) -> Probe:
    """It has asked as often as there are waits; a negative one is a closed connection."""
    stopping, left = threading.Event(), list(waits_s)

    def exchange() -> float:
        wait_s = left.pop(0)
        if len(left) == 1:
            stopping.set()
        if wait_s < 0:
            raise Closed("the peer closed the connection")
        return wait_s

    probe = Probe(exchange, 0, stopping)
    probe.run()
    return probe


def test_a_probe_tells_its_worst_wait() -> None:
    probe = _probe_that_sees(0.1, 0.7, 0.2)
    assert (probe.worst_s, probe.problem) == (0.7, "")


def test_a_probe_ends_with_its_connection_and_keeps_what_it_saw() -> None:
    probe = _probe_that_sees(0.7, -1, 0.9)
    assert probe.worst_s == 0.7
    assert "the peer closed the connection" in probe.problem


def _samples(**waits: float) -> Samples:
    samples = Samples(ATTACKS[0])
    figures = dict.fromkeys((*WAITS, "took"), 1.0)
    samples.add("MonsterMQ", Outcome(figures=figures | waits))
    return samples


@pytest.mark.parametrize(
    ("waits", "verdict"),
    [
        ({"message": 100.0}, "aim met"),
        ({"message": 101.0}, "met"),
        ({"ping": 250.0}, "met"),
        ({"health": 251.0}, "MISSED"),
        ({"stored": 300.0, "lateness": 300.0}, "aim met"),
    ],
)
def test_the_longest_of_all_waits_decides(waits: dict[str, float], verdict: str) -> None:
    *_, row = canary_lines([_samples(**waits)])
    assert f"| {verdict} |" in row


def test_the_worst_of_all_runs_is_shown() -> None:
    samples = _samples(message=90)
    samples.add("MonsterMQ", Outcome(figures=_samples().outcomes["MonsterMQ"][0].figures))
    *_, row = canary_lines([samples])
    assert row.endswith("| 90 ms | 1 ms | 1 ms | 1 ms | 1 ms | aim met | 1.0 s |")


def test_an_attack_that_could_not_be_run_has_a_row_and_a_reason() -> None:
    samples = Samples(ATTACKS[0])
    samples.add("MonsterMQ", Outcome(figures={}, problems=["refused"]))
    *_, row, _, _, _, reason = canary_lines([samples])
    assert "MISSED" not in row
    assert "met" not in row
    assert "refused" in reason


def test_attacks_have_a_table_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONSTERMQ_BENCH", raising=False)
    arguments = ["--only", "canary-subscribe-packet", "--broker", "monstermq", "--seconds", "0.05"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "| SUBSCRIBE with 100,000 filters |" in out
    assert "| scenario | mosquitto |" not in out


def test_attacks_are_chosen_by_the_name_that_they_share() -> None:
    assert set(ATTACKS) < set(chosen_scenarios(None))
    assert set(chosen_scenarios(["canary"])) == set(ATTACKS)
    assert [one.name for one in chosen_scenarios(["canary-reload"])] == ["canary-reload"]
    assert not set(ATTACKS) & set(chosen_scenarios(["retained", "idle"]))


def test_a_whole_name_chooses_nothing_else() -> None:
    assert [one.name for one in chosen_scenarios(["offline"])] == ["offline"]
    assert len(chosen_scenarios(["offlin"])) > 1


def test_frames_are_joined_into_pieces_of_a_size_or_a_little_more() -> None:
    assert list(joined([b"abc", b"def", b"gh"], 4)) == [b"abcdef", b"gh"]
    assert list(joined([], 4)) == []
