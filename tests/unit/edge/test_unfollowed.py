"""Rows that nobody makes while kept sessions wait for them: told once, and once when it is over."""

import pytest

from monstermq_edge.engines.kafka.unfollowed import PAUSE_S, Unfollowed

STANDS_S = 10.0


class Looks:
    """Marks that are looked at once a second."""

    def __init__(self) -> None:
        self.of = Unfollowed("the queues", "start one", STANDS_S)
        self.now_s = 100.0

    def look(
        self, seconds: float, waited: list[int], marks: dict[int, int], every_s: float = 1.0
    ) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += every_s
            self.of.look(waited, marks, self.now_s)


def test_rows_that_stand_still_while_somebody_waits_are_told_once_and_that_they_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = Looks()
    looks.look(STANDS_S, [0, 2], {0: 7, 1: 5, 2: 9})
    assert looks.of.told == ""
    looks.look(1, [0, 2], {0: 7, 1: 5, 2: 9})
    told = "no projector makes the rows of the queues, partitions 0, 2: start one"
    assert looks.of.told == told
    looks.look(30, [0, 2], {0: 8, 1: 5, 2: 9})
    assert looks.of.told == told  # 0 went on for one record only
    looks.look(1, [0, 2], {0: 8, 1: 5, 2: 10})
    assert looks.of.told == "no projector makes the rows of the queues, partition 0: start one"
    looks.look(1, [0], {0: 9, 1: 5, 2: 10})
    assert looks.of.told == ""
    again = "a projector makes the rows of the queues again"
    assert caplog.messages == [told, again]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_rows_that_go_on_slowly_have_a_projector() -> None:
    looks = Looks()
    for mark in range(5):
        looks.look(STANDS_S - 1, [0], {0: mark})
    assert looks.of.told == ""


def test_nobody_waits_for_rows_that_have_all_there_is() -> None:
    looks = Looks()
    looks.look(3 * STANDS_S, [], {0: 7})
    looks.look(1, [0], {0: 7})
    assert looks.of.told == ""


def test_clients_that_give_up_do_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks()
    for _ in range(3):
        looks.look(STANDS_S + 1, [0], {0: 7})
        looks.look(STANDS_S, [], {0: 7})
    assert [*looks.of.partitions] == [0]
    assert len(caplog.messages) == 1


def test_a_partition_without_a_mark_stands_still_too() -> None:
    looks = Looks()
    looks.look(STANDS_S + 1, [3], {})
    assert looks.of.partitions == {3: None}
    looks.look(1, [3], {3: 1})
    assert not looks.of.partitions


def test_many_partitions_are_counted() -> None:
    looks = Looks()
    looks.look(STANDS_S + 1, [*range(9)], dict.fromkeys(range(12), 5))
    assert looks.of.told == "no projector makes the rows of the queues, 9 partitions: start one"


def test_time_in_which_the_database_was_away_does_not_count() -> None:
    looks = Looks()
    looks.look(10 * STANDS_S, [0], {0: 7}, every_s=PAUSE_S + 1)
    assert looks.of.told == ""
