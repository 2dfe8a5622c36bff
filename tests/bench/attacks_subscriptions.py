"""Attacks with topic filters: many, deep, and what their coming and going costs.

Of each function, what stands before the ``yield`` prepares; the canary sees what follows.
"""

import itertools
import random
from collections.abc import Iterator

from tests.bench.frames import publish_frame, subscribe_all_frame, unsubscribe_frame
from tests.bench.stage import CHUNK_SIZE, Attacker, Stage, joined

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
DEEP, WIDE = 190, 14
"""Levels of a filter that share a topic's words: deep within the limit, and wide with ``/#``."""


def _strange(count: int) -> list[str]:
    """Filters that begin with wildcards and match no topic that is there."""
    return [f"+/+/z{number}" for number in range(count)]


def subscribe_over_cached_topics(stage: Stage) -> Iterator[None]:
    """One SUBSCRIBE, and every remembered topic might have a receiver more."""
    stage.cache_topics(stage.some(65_000))
    attacker = stage.join("attacker")
    yield
    stage.subscribe(attacker, _strange(stage.some(1_000)))


def unsubscribe_over_cached_topics(stage: Stage) -> Iterator[None]:
    """One UNSUBSCRIBE, and every remembered topic might have a receiver less."""
    attacker, filters = stage.join("attacker"), _strange(stage.some(1_000))
    stage.subscribe(attacker, filters)
    stage.cache_topics(stage.some(65_000))
    yield
    attacker.send(unsubscribe_frame(filters))
    stage.sync(attacker)


def leave_over_cached_topics(stage: Stage) -> Iterator[None]:
    """The same, but the client just goes."""
    attacker = stage.join("attacker")
    stage.subscribe(attacker, _strange(stage.some(1_000)))
    stage.cache_topics(stage.some(20_000))
    yield
    attacker.vanish()


def _overlapping(count: int, levels: int, end: str) -> list[str]:
    """Filters of ``+`` and one word in every order: each has branches of its own to walk."""
    chance, distinct = random.Random(7), set[str]()
    count = min(count, 2 ** (levels - 1))
    while len(distinct) < count:
        distinct.add("/".join(chance.choices("+a", k=levels)) + end)
    return sorted(distinct)


def _join_with(stage: Stage, filters: list[str], clients: int) -> list[Attacker]:
    attackers = [stage.join(f"attacker-{number:03d}") for number in range(clients)]
    for number, attacker in enumerate(attackers):
        stage.subscribe(attacker, filters[number::clients])
    return attackers


def subscribe_to_deep_filters(stage: Stage) -> Iterator[None]:
    """Ten thousand filters of 190 levels come, each with nodes of its own."""
    filters = _overlapping(stage.some(10_000), DEEP, "/b")
    yield
    _join_with(stage, filters, 1)


def publish_into_deep_filters(stage: Stage, clients: int) -> Iterator[None]:
    """PUBLISHes of 190 levels that walk every branch and reach nobody."""
    clients = min(clients, stage.some(10_000))
    _join_with(stage, _overlapping(stage.some(10_000), DEEP, "/b"), clients)
    publisher = stage.join("publisher")
    topic = "/".join("a" * DEEP)
    yield
    for number in range(stage.some(100)):
        publisher.send(publish_frame(f"{topic}/n{number}", b""))
    stage.sync(publisher)


def publish_into_wide_filters(stage: Stage, clients: int) -> Iterator[None]:
    """PUBLISHes on topics never seen before that ten thousand filters match."""
    clients = min(clients, stage.some(10_000))
    _join_with(stage, _overlapping(stage.some(10_000), WIDE, "/#"), clients)
    publisher = stage.join("publisher")
    topic = "/".join("a" * WIDE)
    yield
    frames = (publish_frame(f"{topic}/n{number}", b"") for number in range(stage.some(3_000)))
    stage.feed({publisher: joined(frames, CHUNK_SIZE)})
    stage.sync(publisher)


def leave_with_subscriptions(stage: Stage) -> Iterator[None]:
    """Thirty clients with ten thousand subscriptions each go at once."""
    attackers = [stage.join(f"attacker-{number:02d}") for number in range(stage.some(30))]
    for number, attacker in enumerate(attackers):
        filters = [f"c{number}/f{at}/+" for at in range(stage.some(10_000))]
        stage.subscribe(attacker, filters)
    yield
    for attacker in attackers:
        attacker.vanish()


def _retain_topics(stage: Stage) -> Iterator[bytes]:
    frames = (
        publish_frame(f"plant{number % 100}/line{number}/t", b"retained", retain=True)
        for number in range(stage.some(100_000))
    )
    return joined(frames, CHUNK_SIZE)


def _look_for_retained(stage: Stage) -> Iterator[bytes]:
    """Filters that take a look at every retained topic each, and find nothing."""
    filters = [f"+/+/x{number}" for number in range(stage.some(1_000))]
    parts = (filters[start : start + 100] for start in range(0, len(filters), 100))
    return map(subscribe_all_frame, parts)


def subscribe_over_retained_topics(stage: Stage) -> Iterator[None]:
    """A thousand looks at a hundred thousand topics."""
    publisher = stage.join("publisher")
    stage.feed({publisher: _retain_topics(stage)})
    stage.commit(publisher)
    attacker = stage.join("attacker")
    yield
    stage.feed({attacker: _look_for_retained(stage)})
    stage.sync(attacker)


def subscribe_while_topics_are_retained(stage: Stage) -> Iterator[None]:
    """The same looks, while most of the topics are not in the table yet."""
    publisher, attacker = stage.join("publisher"), stage.join("attacker")
    pieces = list(_retain_topics(stage))
    yield
    stage.feed({publisher: pieces, attacker: _look_for_retained(stage)})
    stage.sync(publisher, attacker)


def _tiny_filters(count: int, length: int) -> list[str]:
    words = itertools.cycle(map("".join, itertools.product(_ALPHABET, repeat=length)))
    return list(itertools.islice(words, count))


def subscribe_in_one_packet(stage: Stage) -> Iterator[None]:
    """As many filters as one packet has room for."""
    attacker = stage.join("attacker")
    yield
    attacker.send(subscribe_all_frame(_tiny_filters(stage.some(100_000), 2)))
    stage.sync(attacker)


def unsubscribe_in_one_packet(stage: Stage) -> Iterator[None]:
    """As many filters as one packet has room for; the client has none of them."""
    attacker = stage.join("attacker")
    yield
    attacker.send(unsubscribe_frame(_tiny_filters(stage.some(170_000), 1)))
    stage.sync(attacker)


def subscribe_to_sys(stage: Stage) -> Iterator[None]:
    """A hundred clients ask for everything below ``$SYS`` again and again."""
    attackers = [stage.join(f"attacker-{number:03d}") for number in range(stage.some(100))]
    request = subscribe_all_frame(["$SYS/#"])
    yield
    stage.feed(
        {one: itertools.repeat(request, stage.some(1_000)) for one in attackers},
        5 * stage.effort.seconds,
    )
