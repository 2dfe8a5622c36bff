"""Routes: cached by the topic's bytes, bounded, and forgotten exactly when they change."""

import tracemalloc
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import calls_made

from monstermq_shared.budget import Budget
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.filter_shapes import FilterTooCostlyError
from monstermq_shared.routing import CACHED_TOPIC_SIZE_MAX, Interest, Router, Varied

LEVELS = st.sampled_from(["a", "b", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=3).map("/".join)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, end]),
    st.lists(LEVELS | st.just("+"), max_size=2),
    st.sampled_from(["#", "+", "a", "b"]),
)


def router(
    *,
    cache_max: int = 10,
    levels_max: int = 5,
    match_nodes_max: int = 1_000,
    budget: Budget | None = None,
    varied: Varied[str] | None = None,
) -> Router[str]:
    return Router(
        lambda topic: Interest(topic == "stored", False, topic == "kept"),
        levels_max=levels_max,
        cache_max=cache_max,
        budget=budget or Budget(),
        match_nodes_max=match_nodes_max,
        varied=varied,
    )


def targets(routes: Router[str], topic: str) -> dict[str, int]:
    return dict(routes.route(topic.encode()).targets)


def warmed(routes: Router[str], *topics: str) -> Router[str]:
    """Meet topics twice, so that their routes are cached."""
    for topic in topics:
        for _ in range(2):
            routes.route(topic.encode())
    return routes


def test_a_route_is_cached_when_its_topic_comes_again() -> None:
    routes = router()
    first = routes.route(b"a")
    assert routes.cached == 0
    second = routes.route(b"a")
    assert second is not first
    assert routes.cached == 1
    assert routes.route(b"a") is second


def test_topics_that_come_once_do_not_empty_the_cache() -> None:
    routes = warmed(router(cache_max=2), "a")
    kept = routes.route(b"a")
    for number in range(50):
        routes.route(b"once/%d" % number)
    assert routes.route(b"a") is kept


def test_the_cache_is_bounded_and_the_oldest_route_goes_first() -> None:
    routes = warmed(router(cache_max=2), "a", "b")
    kept = routes.route(b"b")
    warmed(routes, "c")
    assert routes.cached == 2
    assert routes.route(b"b") is kept
    routes.add("a", "s", 1)
    assert targets(routes, "a") == {"s": 1}


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "#", "+/b", "a/#", "a/b/#"])
def test_a_changed_subscription_drops_the_routes_it_matches(topic_filter: str) -> None:
    routes = warmed(router(), "a/b")
    routes.add(topic_filter, "s", 1)
    assert targets(routes, "a/b") == {"s": 1}
    warmed(routes, "a/b")
    routes.add(topic_filter, "s", 2)
    assert targets(routes, "a/b") == {"s": 2}
    warmed(routes, "a/b")
    assert routes.remove(topic_filter, "s")
    assert targets(routes, "a/b") == {}


def test_routes_it_does_not_match_stay() -> None:
    routes = warmed(router(), "a/b", "c")
    kept = routes.route(b"c")
    routes.add("a/#", "s", 1)
    routes.remove("unknown", "s")
    assert routes.route(b"c") is kept
    assert routes.cached == 2


def test_a_route_says_who_else_wants_the_topic() -> None:
    routes = router()
    assert routes.route(b"stored").wanted
    assert not routes.route(b"stored").durable
    assert not routes.route(b"kept").wanted
    assert routes.route(b"kept").durable_retained
    assert not routes.route(b"plain").durable_retained


@pytest.mark.parametrize(
    ("topic", "reserved"),
    [(b"$SYS", True), (b"$SYS/uptime", True), (b"$SYSTEM/x", False), (b"other", False)],
)
def test_the_brokers_own_topics_are_reserved(topic: bytes, reserved: bool) -> None:
    assert router().route(topic).reserved == reserved


def test_a_long_topic_is_never_cached() -> None:
    routes = warmed(router(), "x" * CACHED_TOPIC_SIZE_MAX, "x" * (CACHED_TOPIC_SIZE_MAX + 1))
    assert routes.cached == 1


def test_the_cache_is_bounded_in_bytes_of_topics() -> None:
    routes = router(cache_max=1_000)
    for number in range(1_000):
        warmed(routes, f"{number:01000}")
    assert 200 < routes.cached < 300
    kept = routes.route(b"%01000d" % 999)
    assert routes.route(b"%01000d" % 999) is kept


def test_the_cache_is_bounded_in_targets() -> None:
    routes = router(cache_max=1_000)
    for number in range(100):
        for subscriber in range(200):
            routes.add(f"t/{number}", f"{number}.{subscriber}", 1)
    for number in range(100):
        warmed(routes, f"t/{number}")
    assert 30 < routes.cached < 50
    routes.remove("t/99", "99.0")
    assert len(targets(routes, "t/99")) == 199


def test_a_route_larger_than_the_whole_cache_is_found_each_time() -> None:
    routes = warmed(router(cache_max=2), "small")
    for subscriber in range(100):
        routes.add("large", f"{subscriber}", 1)
    warmed(routes, "large")
    assert routes.cached == 1
    assert len(targets(routes, "large")) == 100


def test_routes_with_the_same_targets_share_them() -> None:
    routes = router(cache_max=1_000)
    for subscriber in range(200):
        routes.add("#", f"{subscriber}", 1)
    for number in range(1_000):
        warmed(routes, f"t/{number}")
    assert routes.cached == 1_000
    assert routes.route(b"t/0").targets is routes.route(b"t/999").targets
    routes.add("t/+", "another", 1)
    for number in range(1_000):
        assert len(targets(routes, f"t/{number}")) == 201
    assert routes.route(b"t/0").targets is routes.route(b"t/999").targets


def test_a_route_that_is_matched_anew_and_finds_the_same_stays() -> None:
    routes = warmed(router(), "a/b")
    kept = routes.route(b"a/b")
    routes.add("a/+/c", "s", 1)
    routes.add("+/c", "s", 1)
    assert routes.route(b"a/b") is kept


@pytest.mark.parametrize("topic_filter", ["+/+/nowhere", "#", "t/+/nowhere", "t/1"])
def test_what_a_changed_filter_costs_does_not_grow_with_the_cached_topics(
    topic_filter: str,
) -> None:
    few = warmed(router(cache_max=10_000), *(f"t/{number}" for number in range(10)))
    many = warmed(router(cache_max=10_000), *(f"t/{number}" for number in range(5_000)))
    for change in (
        lambda routes: routes.add(topic_filter, "s", 1),
        lambda routes: routes.remove(topic_filter, "s"),
    ):
        assert calls_made(partial(change, few)) == calls_made(partial(change, many))


class VariedHere:
    """One subscriber that has something else in the partition of some topics."""

    def __init__(self, granted: dict[str, int | None], cost: int) -> None:
        self.subscribers = {"s"}
        self.compared = 0
        self._granted = granted
        self._cost = cost

    def granted(self, _subscriber: str, topic: str, anywhere: int) -> int | None:
        self.compared += self._cost
        return self._granted.get(topic, anywhere)


def test_whoever_varies_gets_what_it_has_in_the_partition_and_that_is_charged() -> None:
    budget = Budget()
    varied = VariedHere({"a/1": None, "a/2": 0}, 5_000)
    routes = router(budget=budget, varied=varied)
    routes.add("a/#", "s", 1)
    routes.add("a/#", "other", 1)
    before = budget.left
    assert targets(routes, "a/1") == {"other": 1}
    assert before - budget.left > 5_000
    assert targets(routes, "a/2") == {"s": 0, "other": 1}
    assert targets(routes, "a/3") == {"s": 1, "other": 1}


def test_thousands_of_filters_that_change_at_once_end_each_era_once() -> None:
    routes = warmed(router(cache_max=10_000), *(f"{number}/x" for number in range(1_000)))

    def outdate(count: int) -> None:
        routes.outdate("+/x")
        for number in range(count):
            routes.outdate(f"+/{number}")

    some, many = calls_made(partial(outdate, 10)), calls_made(partial(outdate, 1_010))
    assert many - some < 10 * 1_000
    # And it is ended again once something was matched since.
    assert len(targets(routes, "1/x")) == 0
    routes.add("+/x", "s", 1)
    assert targets(routes, "1/x") == {"s": 1}


def test_a_filter_with_which_a_match_could_visit_too_many_nodes_is_refused() -> None:
    budget = Budget()
    routes = router(levels_max=20, match_nodes_max=100, budget=budget)
    refused = 0
    for number in range(1 << 8):
        levels = ["+" if number >> bit & 1 else "a" for bit in range(8)]
        try:
            routes.add("/".join([*levels, "#"]), "s", 1)
        except FilterTooCostlyError:
            refused += 1
    assert refused > 200
    before = budget.left
    routes.route(b"a/a/a/a/a/a/a/a/a")
    assert before - budget.left <= 110


def test_topics_met_once_take_no_memory_of_their_own() -> None:
    routes = router(cache_max=65_536)
    tracemalloc.start()
    try:
        for number in range(1_000):
            routes.route(b"%01000d" % number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300_000


@pytest.mark.parametrize("topic", [b"", b"a/#", b"+", b"\xff", b"a\x00", b"1/2/3/4/5/6"])
def test_what_is_no_topic_name_is_refused_each_time(topic: bytes) -> None:
    routes = router()
    for _ in range(3):
        with pytest.raises(InvalidTopic):
            routes.route(topic)
    assert routes.cached == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("route"), TOPICS, st.just("")),
            st.tuples(st.just("add"), FILTERS, st.sampled_from("xyz")),
            st.tuples(st.just("remove"), FILTERS, st.sampled_from("xyz")),
        ),
        max_size=40,
    )
)
def test_a_cached_route_is_always_what_a_new_one_would_be(
    steps: list[tuple[str, str, str]],
) -> None:
    routes = router(cache_max=3)
    fresh = router(cache_max=3)
    for step, text, subscriber in steps:
        if step == "add":
            assert routes.add(text, subscriber, 1) == fresh.add(text, subscriber, 1)
        elif step == "remove":
            assert routes.remove(text, subscriber) == fresh.remove(text, subscriber)
        else:
            warmed(routes, text)
            unused: Router[str] = router()
            unused._index = fresh._index
            assert targets(routes, text) == targets(unused, text)
        assert routes.cached <= 3
        assert len(routes) == len(fresh)
