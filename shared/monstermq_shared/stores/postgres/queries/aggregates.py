"""Numbers of past messages in buckets of time, as PostgreSQL computes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import asyncpg

from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregateQuery,
    Bucket,
)
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.stores.postgres.queries.archive_topics import find_topics
from monstermq_shared.stores.postgres.queries.asking import Fetch
from monstermq_shared.stores.postgres.queries.filters import Filters
from monstermq_shared.stores.postgres.queries.rows import moment
from monstermq_shared.stores.sql import fill_in, load_queries

_RAW = load_queries(__package__, "aggregates.sql")

_GROWTH = 4
"""How many more topics the next statement is about: most of them may have nothing."""


class Aggregates:
    """Answers from one archive.

    Args:
        table: Its name.
        archive: The statements of ``archive.sql`` for it.
        cursors: What seals where pages end.
    """

    def __init__(self, table: str, archive: Mapping[str, str], cursors: Cursors) -> None:
        self._table = table
        self._archive = archive
        self._cursors = cursors

    async def buckets(self, fetch: Fetch, query: AggregateQuery) -> list[Bucket]:
        """Return the buckets of a page, and one more if there are others."""
        ask = _of_each if query.by_topic else _of_all
        question = _Question(self._table, query, self._place(query))
        return [_bucket(row, query) for row in await ask(fetch, self._archive, question)]

    def _place(self, query: AggregateQuery) -> "_Place":
        if query.cursor is None:
            return _Place("", 0)
        topic, start_ms = self._cursors.open(query.question, query.cursor)
        return _Place(str(topic), (int(start_ms) - query.start_ms) // query.bucket_ms + 1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Behind which bucket a page begins.

    Attributes:
        topic: Of which topic; empty: before all.
        buckets: How many buckets of it were there.
    """

    topic: str
    buckets: int


class _Question:
    """A query, as statements and their parameters."""

    def __init__(self, table: str, query: AggregateQuery, begin: _Place) -> None:
        self.filters = Filters(query.filters)
        self.begin = begin
        self.rows_max = query.limit + 1
        starts = range(query.start_ms, query.end_ms, query.bucket_ms)
        self.buckets = len(starts)
        self._lows = [moment(start) for start in starts]
        self._highs = [*self._lows[1:], moment(query.end_ms)]
        self._table = table
        self._functions = query.functions
        self._steps = () if query.field is None else query.field.steps

    async def ask(
        self, fetch: Fetch, name: str, topics: Sequence[str], begun: int, rows_max: int
    ) -> list[asyncpg.Record]:
        """Return buckets of topics, behind a number of buckets of the first of them."""
        parameters = [topics, self._lows, self._highs, begun, rows_max]
        of_stretch = name == "buckets_of_stretch"
        if of_stretch:
            parameters.append(self.filters.expression)
        statement = self._statement(
            name, source="of_stretch" if of_stretch else "of_topic", steps_at=len(parameters) + 1
        )
        return await fetch(statement, *parameters, *self._steps)

    def _statement(self, name: str, *, source: str, steps_at: int) -> str:
        """Return a statement; the steps to the field are its parameters from a number on."""
        steps = "".join(
            f" -> ${number}::{'integer' if isinstance(step, int) else 'text'}"
            for number, step in enumerate(self._steps, steps_at)
        )
        values = {
            "first": self._end(AggregateFunction.FIRST, name, "ASC"),
            "last": self._end(AggregateFunction.LAST, name, "DESC"),
            "told": _RAW["told"],
            **{name.value: self._function(name) for name in _FUNCTIONS},
            "numbers": _RAW["numbers"],
            "source": _RAW[source],
            "number": _RAW["number"],
            "held": _RAW["held"],
            "field": f"payload_json{steps}",
            "table": self._table,
        }
        return fill_in({name: _RAW[name]}, values)[name]

    def _function(self, function: AggregateFunction) -> str:
        asked = function in self._functions
        return f"{function}(number) AS {function}" if asked else f"NULL::numeric AS {function}"

    def _end(self, function: AggregateFunction, name: str, order: str) -> str:
        if function not in self._functions:
            return "NULL::numeric"
        end = _RAW["end_of_all" if name == "buckets_of_topics" else "end"]
        # The order of an index, which that of all messages would follow on as well.
        keys = ["time", "position"] if name == "buckets_of_each" else _TIME_ORDER
        in_order = ", ".join(f"{key} {order}" for key in keys)
        return fill_in({"end": end}, {"in_order": in_order, "order": order})["end"]


_FUNCTIONS = (
    AggregateFunction.AVG,
    AggregateFunction.MIN,
    AggregateFunction.MAX,
    AggregateFunction.SUM,
)
_TIME_ORDER = ("time", "generation", "partition", "position")


async def _of_each(
    fetch: Fetch, archive: Mapping[str, str], question: _Question
) -> list[asyncpg.Record]:
    """Return buckets topic by topic, no more than a page needs: there may be very many."""
    found: list[asyncpg.Record] = []
    begun = question.begin.buckets
    upto: str | None = question.begin.topic
    first = [upto] if upto else []
    while upto is not None and len(found) < question.rows_max:
        topics = await find_topics(fetch, archive, question.filters, upto)
        names, at, count = [*first, *topics.names], 0, 1
        while at < len(names) and len(found) < question.rows_max:
            rows_max = question.rows_max - len(found)
            count = max(count, -(-rows_max // question.buckets))
            some = names[at : at + count]
            found += await question.ask(fetch, "buckets_of_each", some, begun, rows_max)
            at, count, begun = at + len(some), count * _GROWTH, 0
        upto, first = topics.upto, []
    return found


async def _of_all(
    fetch: Fetch, archive: Mapping[str, str], question: _Question
) -> list[asyncpg.Record]:
    """Return buckets of all topics together."""
    topics = await find_topics(fetch, archive, question.filters)
    found_all = topics.upto is None
    return await question.ask(
        fetch,
        "buckets_of_topics" if found_all else "buckets_of_stretch",
        topics.names if found_all else question.filters.exact,
        question.begin.buckets,
        question.rows_max,
    )


def _bucket(row: asyncpg.Record, query: AggregateQuery) -> Bucket:
    values: dict[AggregateFunction, float | int | None] = {
        function: _float(row[function.value])
        for function in query.functions
        if function is not AggregateFunction.COUNT
    }
    if AggregateFunction.COUNT in query.functions:
        values[AggregateFunction.COUNT] = row["numbers"]
    return Bucket(
        topic=row["topic"],
        start_ms=query.start_ms + (row["number"] - 1) * query.bucket_ms,
        messages=row["messages"],
        numbers=row["numbers"],
        values={function: values[function] for function in query.functions},
    )


def _float(number: Decimal | None) -> float | None:
    """Return what a double holds of it, None if it is beyond that."""
    value = None if number is None else float(number)
    return value if value is None or math.isfinite(value) else None
