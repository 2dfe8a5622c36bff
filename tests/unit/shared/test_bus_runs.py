"""R1 and R3 in one partition, and how long what they need is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.form import pure_only

from monstermq_shared.bus.fences import Fences
from monstermq_shared.bus.runs import Runs

L = 1_000
A, B, WILL = b"run a...", b"run b...", b"will\0\0\0\1"


def test_a_sequence_that_is_not_above_the_highest_of_its_run_has_been_there() -> None:
    runs = Runs(L)
    assert runs.is_new(A, 5, 0)
    assert not runs.is_new(A, 4, 0)
    assert not runs.is_new(A, 5, 0)
    assert runs.is_new(A, 6, 0)
    assert runs.is_new(B, 5, 0)
    assert (runs.highest(A), runs.highest(B), runs.highest(WILL)) == (6, 5, -1)


def test_a_run_is_known_until_the_newest_record_is_two_l_past_its_last() -> None:
    runs = Runs(L)
    assert runs.is_new(A, 5, 100)
    assert runs.is_new(B, 0, 100 + 2 * L - 1)
    assert not runs.is_new(A, 5, 100)
    assert runs.is_new(B, 1, 100 + 2 * L)
    assert runs.is_new(A, 5, 100)


def test_a_run_that_goes_on_is_not_forgotten() -> None:
    runs = Runs(L)
    for number in range(100):
        assert runs.is_new(A, number, number * L)
        assert not runs.is_new(A, number, number * L)


def test_the_runs_of_wills_are_never_forgotten() -> None:
    runs = Runs(L)
    assert runs.is_new(WILL, 7, 0)
    assert runs.is_new(A, 0, 0)
    for number in range(100):
        assert runs.is_new(B, number, number * L)
    assert not runs.is_new(WILL, 7, 100 * L)
    assert len(runs) == 2


def test_silent_runs_take_no_memory_for_ever() -> None:
    runs = Runs(L)
    for number in range(10_000):
        assert runs.is_new(number.to_bytes(8, "big"), 0, number * 10)
    assert len(runs) <= 4 * L / 10


STEPS = st.tuples(st.sampled_from([A, B, WILL]), st.integers(0, 6), st.integers(0, 5 * L))


@given(st.lists(STEPS, max_size=40), st.integers(0, 40))
def test_whoever_loads_a_state_goes_on_as_the_one_who_dumped_it(
    steps: list[tuple[bytes, int, int]], at: int
) -> None:
    runs = Runs(L)
    for step in steps[:at]:
        runs.is_new(*step)
    loaded, copied = Runs.load(runs.dump(), L), runs.copy()
    told = [runs.is_new(*step) for step in steps[at:]]
    assert told == [loaded.is_new(*step) for step in steps[at:]]
    assert told == [copied.is_new(*step) for step in steps[at:]]


@pure_only
@given(st.lists(STEPS, max_size=40))
def test_when_silent_runs_are_swept_changes_nothing(steps: list[tuple[bytes, int, int]]) -> None:
    class Unswept(Runs):
        def _forget(self) -> None:
            pass

    swept, kept = Runs(L), Unswept(L)
    for step in steps:
        assert swept.is_new(*step) == kept.is_new(*step)


@pytest.mark.parametrize("dump", [{"zz": [1, 2]}, {"00": [1]}, {"00": ["x", 2]}])
def test_what_is_no_dump_is_refused(dump: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match=r"hex|unpack|int"):
        Runs.load(dump, L)


# -- fences ------------------------------------------------------------------------------------


def test_a_client_is_fenced_below_its_newest_marker() -> None:
    fences = Fences(L)
    assert fences.admits("c", 0)
    assert fences.mark("c", 5, 0)
    assert not fences.admits("c", 4)
    assert fences.admits("c", 5)
    assert fences.admits("other", 4)
    assert not fences.mark("c", 4, 0)
    assert fences.mark("c", 5, 0)
    assert fences.mark("c", 6, 0)
    assert not fences.admits("c", 5)


def test_fences_are_kept_for_two_l_of_record_time() -> None:
    fences = Fences(L)
    for number in range(1_000):
        assert fences.mark(str(number), number, number * 10)
    assert not fences.admits("999", 998)
    assert not fences.admits("801", 800)
    assert len(fences) <= 3 * L / 10 + 1


def test_fences_are_loaded_from_the_marks_of_many_commits() -> None:
    fences = Fences.load([("c", 5, 10), ("d", 1, 10), ("c", 7, 20)], L)
    assert sorted(fences.dump()) == [("c", 7, 20), ("d", 1, 10)]
    again = Fences.load(reversed([("c", 5, 10), ("c", 7, 20)]), L)
    assert again.dump() == [("c", 7, 20)]
