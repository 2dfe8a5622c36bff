"""Whether somebody subscribes to $SYS is known at any moment, without a look through all."""

import pytest
from tests.support.engine import Bench, session_of, subscribe_to, unsubscribe_from

from monstermq_shared.topics import reaches_client_statistics


def watched(bench: Bench) -> tuple[int, int]:
    """Return how many subscriptions there are to $SYS, and to the clients' statistics."""
    watchers = bench.engine.system_watchers
    return watchers.topics, watchers.clients


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        ("$SYS/#", True),
        ("$SYS/+/x/statistics", True),
        ("$SYS/clients/#", True),
        ("$SYS/broker/#", False),
        ("$SYS", False),
        ("#", False),
        ("$SYSTEM/#", False),
    ],
)
def test_filters_that_can_match_the_statistics_of_clients(
    topic_filter: str, expected: bool
) -> None:
    assert reaches_client_statistics(topic_filter) is expected


def test_subscriptions_are_counted_as_they_come_and_go() -> None:
    bench = Bench()
    link = bench.connect("s", ("$SYS/#", 0), ("$SYS/broker/#", 0), ("#", 0), clean=True)
    assert watched(bench) == (2, 1)
    subscribe_to(bench.engine, session_of(link), 2, [("$SYS/#", 1)])
    assert watched(bench) == (2, 1), "it was there before"
    unsubscribe_from(bench.engine, session_of(link), 3, ["$SYS/#", "$SYS/#", "#"])
    assert watched(bench) == (1, 0)
    bench.drop(link)
    assert watched(bench) == (0, 0)
    assert not bench.engine.system_watchers._counts


def test_who_is_away_does_not_watch() -> None:
    bench = Bench()
    bench.connect("other", ("$SYS/#", 0), clean=True)
    link = bench.connect("s", ("$SYS/#", 0))
    assert watched(bench) == (2, 2)
    bench.drop(link)
    assert watched(bench) == (1, 1)
    bench.settle()
    after = bench.killed()
    assert watched(after) == (0, 0)
    again = after.connect_again("s")
    assert watched(after) == (1, 1)
    after.drop(again)
    after.attach("s", clean=True)
    assert watched(after) == (0, 0)
    assert not after.engine.system_watchers._counts


def test_a_takeover_counts_once() -> None:
    bench = Bench()
    bench.connect("s", ("$SYS/#", 0))
    bench.connect("s")
    assert watched(bench) == (1, 1)
