"""Takeovers have a rate per client id, and what is remembered of it is small."""

import tracemalloc

from monstermq_edge.network.takeover import WINDOW_S, TakeoverLimit


def test_a_client_id_is_taken_over_so_often_a_minute() -> None:
    limit = TakeoverLimit(2, lambda client_id: client_id != "absent")
    assert [limit.admit("a", now) for now in (0.0, 1.0, 2.0)] == [True, True, False]
    assert limit.admit("b", 2.0)
    assert all(limit.admit("absent", 2.0) for _ in range(9))
    assert limit.admit("a", WINDOW_S)


def test_long_client_ids_are_not_kept() -> None:
    limit = TakeoverLimit(2, lambda _: True)
    tracemalloc.start()
    try:
        for number in range(1_000):
            assert limit.admit(f"{number}" + "x" * 65_000, 0.0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
