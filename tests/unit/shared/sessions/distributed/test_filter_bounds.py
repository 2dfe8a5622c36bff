"""What all filters of one kept session may take is bounded (E10)."""

from collections.abc import Iterator
from itertools import combinations

from tests.support.kept_edges import kept_edges

from monstermq_shared.bus.control import TEXT_SIZE_MAX
from monstermq_shared.sessions.distributed.filter_bounds import BEGINNINGS_MAX, FilterBounds

REFUSED = 0x80


def deep(*places: int, levels: int = 100) -> str:
    """Return a filter with wildcards in these levels."""
    return "/".join("+" if level in places else "a" for level in range(levels))


def shallow() -> Iterator[str]:
    """Return one filter of each shape of up to ten levels with up to two wildcards, or three."""
    for levels in range(1, 11):
        for count in range(3):
            for places in combinations(range(levels), count):
                yield deep(*places, levels=levels)
                yield deep(*places, levels=levels) + "/#"


def test_wildcards_in_too_many_places_are_refused() -> None:
    _, edge, _ = kept_edges()
    link = edge.connect_kept("c")
    filters = [(deep(place), 1) for place in range(20)]
    codes = edge.subscribe(link, 1, *filters)
    assert codes[0] == 1
    assert codes[-1] == REFUSED
    before = edge.engine.counters.subscriptions_refused
    assert before == codes.count(REFUSED) > 0
    edge.settle()
    # What is not a new shape, or has no wildcard, is taken; and who unsubscribes makes room.
    granted = [name for (name, _), code in zip(filters, codes, strict=True) if code != REFUSED]
    assert edge.subscribe(link, 2, (deep(), 1), (granted[0].replace("a", "b"), 1)) == [1, 1]
    edge.settle()
    for packet_id in (3, 4):  # the second one before the first holds anywhere
        edge.engine.unsubscribe(link.session, granted[:5])
        edge.engine.unsubscribed(link.session, packet_id)
    edge.settle()
    assert edge.subscribe(link, 5, filters[-1]) == [1]


def test_a_session_that_has_more_keeps_it() -> None:
    filters = [deep(place) for place in range(30)]
    bounds = FilterBounds(filters)
    assert "nodes" in bounds.add(deep(50), filters)
    assert not bounds.add(deep(3).replace("a", "b"), filters)
    for each in filters[3:]:
        bounds.remove(each)
    assert not bounds.add(deep(50), filters[:3])


def test_no_ordinary_session_meets_the_bound() -> None:
    filters = list(shallow())
    bounds = FilterBounds()
    size = 0
    while bounds.size < BEGINNINGS_MAX:  # so many that they are counted
        assert not bounds.add(f"a/{size}", [])
        size += 1
    for number, each in enumerate(filters):
        assert not bounds.add(each, filters[:number])


def test_filters_that_do_not_fit_a_record_are_refused() -> None:
    bounds = FilterBounds()
    assert not bounds.add("a" * 60_000, [])
    size = bounds.size
    for number in range(3):
        assert not bounds.add(f"{number}" * 60_000, [])
    assert "bytes" in bounds.add("b" * 60_000, [])
    assert bounds.size == 4 * size < TEXT_SIZE_MAX
    bounds.remove("a" * 60_000)
    assert not bounds.add("b" * 60_000, [])
