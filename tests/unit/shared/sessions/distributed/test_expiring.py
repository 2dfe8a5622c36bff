"""When sessions are over (S4), and what is kept to know it."""

from monstermq_shared.bus.facts import EXPIRY_S_MAX
from monstermq_shared.sessions.distributed.expiring import STALE_MAX, WIDTH_MS, Expiring


def test_sessions_are_over_in_order_and_once() -> None:
    expiring = Expiring()
    expiring.add("late", 0, 60)
    expiring.add("early", 0, 10)
    expiring.add("never", 0, EXPIRY_S_MAX)
    assert [*expiring.over(9_999)] == []
    assert [*expiring.over(10_000 + WIDTH_MS)] == ["early"]
    assert [*expiring.over(2**62)] == ["late"]
    assert [*expiring.over(2**62)] == []


def test_one_that_is_taken_out_is_not_over() -> None:
    expiring = Expiring()
    for name in "ab":
        expiring.add(name, 5, 10)
    expiring.remove("a", 5, 10)
    expiring.remove("c", 5, 10)
    expiring.remove("d", 5, 20)
    expiring.remove("e", 5, EXPIRY_S_MAX)
    assert [*expiring.over(2**62)] == ["b"]


def test_what_is_not_asked_for_yet_stays() -> None:
    expiring = Expiring()
    for number in range(5):
        expiring.add(f"{number}", 0, 0)
    over = expiring.over(WIDTH_MS)
    first = {next(over), next(over)}
    assert {*first, *expiring.over(WIDTH_MS)} == {f"{number}" for number in range(5)}


def test_sessions_that_come_and_go_leave_nothing() -> None:
    """Every map has a bound."""
    expiring = Expiring()
    for second in range(0, 20 * STALE_MAX, 5):
        expiring.add("a", second * 1_000, 10**6)
        expiring.remove("a", second * 1_000, 10**6)
    assert len(expiring._order) <= STALE_MAX + 2
    assert not expiring._at
    expiring.add("a", 0, 1)
    assert [*expiring.over(2**62)] == ["a"]
