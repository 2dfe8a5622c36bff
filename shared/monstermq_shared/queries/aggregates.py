"""Past values in buckets of time: what can be asked, and what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import ROWS_DEFAULT, check_rows, check_times
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.pages import Page, page_of
from monstermq_shared.topics import is_wildcard

BUCKETS_MAX = 10_000
"""Buckets of one topic that a database computes for one question."""


class AggregateFunction(StrEnum):
    """What a bucket can tell of its numbers."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    COUNT = "count"
    SUM = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateQuery:
    """A question for numbers in buckets; one that is wrong is refused when it is made.

    The number of a message is its payload, or a field of it, where that is a JSON number that a
    double can hold (a bare ``23.5`` is one, ``"23.5"``, ``true`` and ``null`` are none). Others are
    left out and counted.

    Attributes:
        filters: Topics and filters.
        functions: What is computed.
        start_ms: Where the first bucket begins, inclusive, milliseconds since 1970-01-01 UTC.
        end_ms: Where the last one ends, exclusive.
        bucket_ms: Milliseconds of a bucket; they are counted from ``start_ms``.
        field: Which number of the payload; None: the whole payload.
        by_topic: Whether each topic has buckets of its own; else one bucket is about all topics.
        limit: Buckets of the page at most.
        cursor: As for ``HistoryQuery``.
    """

    filters: tuple[str, ...]
    functions: tuple[AggregateFunction, ...]
    start_ms: int
    end_ms: int
    bucket_ms: int
    field: FieldPath | None = None
    by_topic: bool = True
    limit: int = ROWS_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        object.__setattr__(self, "filters", checked_filters(self.filters))
        object.__setattr__(self, "functions", tuple(dict.fromkeys(self.functions)))
        if not self.functions:
            names = ", ".join(AggregateFunction)
            raise QueryRefused(f"no function is given; give at least one of {names}")
        check_times(self.start_ms, self.end_ms)
        check_rows(self.limit)
        if self.start_ms == self.end_ms:
            raise QueryRefused("the start time is the end time; give a stretch of time")
        if self.bucket_ms < 1:
            raise QueryRefused("a bucket must be at least a millisecond long")
        if bucket_count(self.start_ms, self.end_ms, self.bucket_ms) > BUCKETS_MAX:
            raise QueryRefused(
                f"that is more than {BUCKETS_MAX} buckets; give a longer interval or a shorter "
                "stretch of time"
            )

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        what = (self.filters, self.start_ms, self.end_ms, self.bucket_ms, self.field, self.by_topic)
        return repr(("aggregate", *what, self.functions))

    def halves(self) -> "Sequence[AggregateQuery]":
        """Return two questions whose buckets, one after the other, are this one's; or it alone.

        Most of the time of an answer goes into looking up single messages, so two connections that
        each do half of it are nearly twice as fast. Of several topics the buckets are in another
        order, and a page that goes on somewhere has less to do.
        """
        buckets = bucket_count(self.start_ms, self.end_ms, self.bucket_ms)
        in_order = not self.by_topic or (
            len(self.filters) == 1 and not is_wildcard(self.filters[0])
        )
        if buckets < 2 or not in_order or self.cursor is not None:
            return [self]
        middle_ms = self.start_ms + buckets // 2 * self.bucket_ms
        return [replace(self, end_ms=middle_ms), replace(self, start_ms=middle_ms)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What a stretch of time has of one topic, or of all together.

    Attributes:
        topic: The topic; None if it is about all of them.
        start_ms: Where it begins; milliseconds since 1970-01-01 UTC.
        messages: How many messages there are in it, at least 1: empty buckets are left out.
        numbers: How many of them have a number.
        values: Function -> its value; None where no message has a number (``COUNT`` is 0 then), or
            the value is beyond what a double can hold.
    """

    topic: str | None
    start_ms: int
    messages: int
    numbers: int
    values: Mapping[AggregateFunction, float | int | None]


AggregatePage = Page[Bucket]
"""Buckets, in order of topic and then of time."""


def page_of_buckets(
    query: AggregateQuery, buckets: Sequence[Bucket], cursors: Cursors
) -> AggregatePage:
    """Return the page with the first of the buckets, of which more may have been found."""
    return page_of(
        buckets[: query.limit],
        more=len(buckets) > query.limit,
        cursors=cursors,
        question=query.question,
        place=lambda bucket: [bucket.topic or "", bucket.start_ms],
    )


def bucket_count(start_ms: int, end_ms: int, bucket_ms: int) -> int:
    """Return how many buckets a stretch of time has."""
    return -((start_ms - end_ms) // bucket_ms)


_ROUND_MS = tuple(
    seconds * 1000
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800),
    )
)
_WEEK_MS = _ROUND_MS[-1]


def coarsened(start_ms: int, end_ms: int, bucket_ms: int, *, buckets_max: int) -> int:
    """Return a bucket length with which there are at most ``buckets_max`` of them.

    It is the one given, if that will do; else the next round one: seconds, minutes, hours, days,
    then whole weeks.
    """
    if bucket_count(start_ms, end_ms, bucket_ms) <= buckets_max:
        return bucket_ms
    for round_ms in _ROUND_MS:
        if round_ms > bucket_ms and bucket_count(start_ms, end_ms, round_ms) <= buckets_max:
            return round_ms
    return _WEEK_MS * -((start_ms - end_ms) // (_WEEK_MS * buckets_max))
