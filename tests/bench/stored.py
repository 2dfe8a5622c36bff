"""What the benchmarks of stores write: records, and commits that queue and acknowledge them."""

import gc
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from monstermq_shared.operation.process import GC_THRESHOLDS
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.testing.builders import NOON_MS

T = TypeVar("T")


@contextmanager
def garbage_as_in_the_broker() -> Iterator[None]:
    """What there is stays out of the collector's way, which looks as seldom as in the broker."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def make_records(count: int, topics: Sequence[str], *, first: int = 0) -> list[Record]:
    """Make records of 32 bytes on the topics in turn; their ids are made when they are stored.

    Args:
        count: How many.
        topics: See above.
        first: How many have been made before: these come after them.
    """
    return [
        Record(
            topics[number % len(topics)],
            b'{"value": %9d, "unit": "C"}' % number,
            1,
            True,
            "publisher",
            NOON_MS + number,
            number + 1,
        )
        for number in range(first, first + count)
    ]


def shuffled_topics(count: int, *, seed: int = 1) -> list[str]:
    """Return that many topics in no order, or in another one."""
    topics = [f"plant/site{n % 100}/line{n // 1_000}/device{n}/temperature" for n in range(count)]
    random.Random(seed).shuffle(topics)
    return topics


def parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, so many at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def queue_commit(part: Sequence[Record], names: Sequence[str]) -> Commit:
    """Deal records out to offline clients, one receiver each."""
    return _dealt(
        part, names, lambda mine: ClientChanges(queued={at.offset: (at, 1) for at in mine})
    )


def acknowledge_commit(part: Sequence[Record], names: Sequence[str]) -> Commit:
    """Take from the clients what ``queue_commit`` gave them."""
    return _dealt(
        part,
        names,
        lambda mine: ClientChanges(dequeued={at.offset: size_of(at) for at in mine}),
    )


def _dealt(
    part: Sequence[Record],
    names: Sequence[str],
    change: Callable[[Sequence[Record]], ClientChanges],
) -> Commit:
    sessions = {name: change(part[number :: len(names)]) for number, name in enumerate(names)}
    return Commit(upto=part[-1].offset + 1, sessions=sessions)
