"""How far a consumer group is, as it is committed to Kafka and read back."""

import pytest

from monstermq_edge.ingress.places import Reached, new_salt


def test_what_is_committed_is_read_back() -> None:
    reached = Reached(17, new_salt(), 1_768_473_000_123)
    assert Reached.read(17, reached.metadata()) == reached
    assert Reached.read(0, Reached(0, "a").metadata()) == Reached(0, "a", -1)


@pytest.mark.parametrize("note", ["", "x", "other:a:1", "monstermq:a:x", "monstermq:a:1:2"])
def test_what_somebody_else_has_set_is_known_as_that(note: str) -> None:
    assert Reached.read(17, note) is None


def test_no_time_to_come_is_believed() -> None:
    reached = Reached(5, "a", 100).upto(8, [50, 10**17, 200], now_ms=300)
    assert reached == Reached(8, "a", 300)
    assert reached.upto(9, [-1], now_ms=400).newest_ms == 300
