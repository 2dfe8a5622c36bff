"""Questions about topics whose messages are in memory, asked from another thread than its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol, TypeVar

from monstermq_shared.config import StoreType
from monstermq_shared.errors import NotSupported, QueryTimedOut, StoreUnavailable
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX, TEXT_SHOWN_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.joined import JoinedTopics
from monstermq_shared.queries.nearest import nearest_topics
from monstermq_shared.queries.pages import page_of
from monstermq_shared.queries.patterns import TopicPattern, matcher
from monstermq_shared.queries.ports import TopicQueries
from monstermq_shared.queries.topics import (
    CONFIG_LEVEL,
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    FoundTopic,
    NameSearch,
    TopicChild,
    TopicValue,
    ValueSource,
    ValuesPage,
    ValuesQuery,
    config_topic,
    description_in,
)
from monstermq_shared.records import Record
from monstermq_shared.stores.memory import MemoryMessageStore
from monstermq_shared.stores.topic_ranges import (
    AFTER_SLASH,
    beginnings,
    behind_child,
    first_after,
)
from monstermq_shared.topic_tree import TopicTree

T = TypeVar("T")

_STEPS = 100
"""Children that are looked for in one go, each by bisection."""

_CONFIG_END = f"/{CONFIG_LEVEL}"


class Owner(Protocol):
    """Runs something where memory may be read."""

    async def call(self, ask: Callable[[], T]) -> T:
        """Call ``ask``, which takes a fraction of a millisecond; return what it returns."""
        ...


class LoopOwner:
    """Runs it on an event loop, of this thread or another one.

    Args:
        loop: The loop of the thread that changes the memory.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def call(self, ask: Callable[[], T]) -> T:
        """Call ``ask`` between two turns of the loop; return what it returns.

        Raises:
            StoreUnavailable: The loop has been closed.
        """
        answer: Future[T] = Future()

        def run() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(ask())
                except BaseException as exc:  # noqa: BLE001 - whoever asked gets it
                    answer.set_exception(exc)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError as exc:
            raise StoreUnavailable("the broker, which has the MEMORY store, has stopped") from exc
        return await asyncio.wrap_future(answer)


class MemoryQueries:
    """A ``DatabaseQueries`` on message stores in memory; it has no archives and no SQL.

    Args:
        stores: Logical name -> store.
        owner: Where they may be read.
        cursors: What seals where pages end.
        timeout_s: Seconds after which a question is given up.
    """

    store_type = StoreType.MEMORY.value

    def __init__(
        self,
        stores: Mapping[str, MemoryMessageStore],
        owner: Owner,
        cursors: Cursors,
        *,
        timeout_s: float,
    ) -> None:
        self._stores = stores
        self._memory = _Memory(owner, timeout_s)
        self._cursors = cursors

    def archive(self, store: str) -> NoReturn:
        """Refuse: nothing past is kept in memory.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported(
            f"history is not supported by MEMORY, which keeps {store} no longer than it takes; set "
            "ArchiveType of the group to SQLITE or POSTGRES"
        )

    def topics(self, *, retained: str | None, last_values: str | None) -> TopicQueries:
        """Return the questions about the topics of one or two of the stores."""
        asked = [
            MemoryTopicQueries(self._stores[name], source, self._memory, self._cursors)
            for name, source in (
                (last_values, ValueSource.LAST_VALUE),
                (retained, ValueSource.RETAINED),
            )
            if name is not None
        ]
        if len(asked) == 1:
            return asked[0]
        last, kept = asked
        return JoinedTopics(retained=kept, last_values=last, cursors=self._cursors)

    @property
    def sql(self) -> NoReturn:
        """Refuse: memory has no SQL.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported("SQL is not supported by MEMORY; it is by SQLITE and POSTGRES")

    async def close(self) -> None:
        """Do nothing: the stores are not ours."""


class _Memory:
    """Reads in time.

    Args:
        owner: Where it may be read.
        timeout_s: Seconds after which a question is given up, however many readings it takes.
    """

    def __init__(self, owner: Owner, timeout_s: float) -> None:
        self._owner = owner
        self._timeout_s = timeout_s

    async def read(self, ask: Callable[[], T]) -> T:
        """Return what ``ask`` returns."""
        return await self._owner.call(ask)

    @asynccontextmanager
    async def question(self) -> AsyncIterator[None]:
        """Give the readings of one question their time.

        Raises:
            QueryTimedOut: It was over.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as exc:
            raise QueryTimedOut(
                f"the broker, which has the MEMORY store, has not answered within "
                f"{self._timeout_s:g} seconds; ask for less, or again later"
            ) from exc


class MemoryTopicQueries:
    """Answers from one store.

    Args:
        store: The store.
        source: What its values are.
        memory: Reads it.
        cursors: What seals where pages end.
    """

    store_type = StoreType.MEMORY.value

    def __init__(
        self, store: MemoryMessageStore, source: ValueSource, memory: _Memory, cursors: Cursors
    ) -> None:
        self._records: TopicTree[Record] = store.records
        self._source = source
        self._memory = memory
        self._cursors = cursors

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics."""
        async with self._memory.question():
            after = self._after(query)
            found: dict[str, Record] = {}
            for topic_filter in query.filters:
                found |= await self._matches(topic_filter, after, query.limit + 1)
            values: list[TopicValue] = []
            size = 0
            for topic in sorted(found)[: query.limit]:
                message = Message.of(found[topic], payload_limit=query.payload_limit)
                values.append(TopicValue(message=message, source=self._source))
                size += len(topic) + len(message.client_id) + len(message.payload)
                if size >= PAGE_SIZE_MAX:
                    break
            return page_of(
                values,
                more=len(found) > len(values),
                cursors=self._cursors,
                question=query.question,
                place=lambda value: [value.message.topic],
            )

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics with a value whose names match."""
        async with self._memory.question():
            matches = matcher(query.pattern, ignore_case=query.ignore_case)
            found: list[FoundTopic] = []
            start: str | None = self._start(query)
            while start is not None and len(found) <= query.limit:
                items, start = await self._scan(start)
                for topic, _ in items:
                    if matches(topic):
                        found.append(await self._described(topic))
                    if len(found) > query.limit:
                        break
            return self._page(found, query)

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose description matches; none unless this is what is retained."""
        async with self._memory.question():
            found: list[FoundTopic] = []
            if self._source is not ValueSource.RETAINED:
                return self._page(found, query)
            wanted = [
                matcher(TopicPattern.containing(word), ignore_case=query.ignore_case)
                for word in query.words
            ]
            in_namespace = matcher(
                TopicPattern.glob("*")
                if query.namespace is None
                else TopicPattern.glob("*").below(query.namespace),
                ignore_case=query.ignore_case,
            )
            start: str | None = self._start(query)
            while start is not None and len(found) <= query.limit:
                items, start = await self._scan(start)
                for config, record in items:
                    topic = config.removesuffix(_CONFIG_END)
                    if topic in {"", config} or not in_namespace(topic):
                        continue
                    description = description_in(record.payload)
                    if description is not None and all(at(description) for at in wanted):
                        found.append(_found(topic, record))
            return self._page(found, query)

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of the topics with a value."""
        async with self._memory.question():
            prefix = "" if query.parent is None else f"{query.parent}/"
            high = None if query.parent is None else query.parent + AFTER_SLASH
            after = self._cursors.after(query.question, query.cursor)
            found: dict[str, TopicChild] = {}
            start: str | None = prefix if after is None else first_after(prefix + after)
            while start is not None and len(found) <= query.limit:
                nodes, start = await self._memory.read(self._level(prefix, high, start))
                found |= {node.name: node for node in nodes if after is None or node.name > after}
            children = [found[name] for name in sorted(found)]
            return page_of(
                children[: query.limit],
                more=start is not None or len(children) > query.limit,
                cursors=self._cursors,
                question=query.question,
                place=lambda child: [child.name],
            )

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics with a value whose names are near that of one that has none."""
        return await nearest_topics(self.children, topic, limit=limit)

    def _after(self, query: ValuesQuery | NameSearch | DescriptionSearch) -> str:
        return self._cursors.after(query.question, query.cursor) or ""

    def _start(self, query: NameSearch | DescriptionSearch) -> str:
        after = self._after(query)
        if isinstance(query, DescriptionSearch) and after:
            after = config_topic(after)
        return first_after(after) if after else ""

    async def _scan(self, start: str) -> tuple[list[tuple[str, Record]], str | None]:
        return await self._memory.read(lambda: self._records.scan_all(start))

    async def _matches(self, topic_filter: str, after: str, limit: int) -> dict[str, Record]:
        found: dict[str, Record] = {}
        start: str | None = first_after(after) if after else ""
        while start is not None and len(found) < limit:
            ask = self._part(topic_filter, start, limit - len(found))
            items, start = await self._memory.read(ask)
            found |= dict(items)
        return found

    def _part(
        self, topic_filter: str, start: str, limit: int
    ) -> Callable[[], tuple[list[tuple[str, Record]], str | None]]:
        return lambda: self._records.scan(topic_filter, start=start, limit=limit)

    async def _described(self, topic: str) -> FoundTopic:
        record = None
        if self._source is ValueSource.RETAINED:
            record = await self._memory.read(lambda: self._records.get(config_topic(topic)))
        return _found(topic, record)

    def _page(self, found: list[FoundTopic], query: NameSearch | DescriptionSearch) -> FoundPage:
        return page_of(
            found[: query.limit],
            more=len(found) > query.limit,
            cursors=self._cursors,
            question=query.question,
            place=lambda one: [one.topic],
        )

    def _level(
        self, prefix: str, high: str | None, start: str
    ) -> Callable[[], tuple[list[TopicChild], str | None]]:
        """Return what reads some children from a topic on, and tells where to go on."""

        def read() -> tuple[list[TopicChild], str | None]:
            names: set[str] = set()
            at = start
            for _ in range(_STEPS):
                topics = self._records.between(at, high, 1)
                if not topics:
                    return self._nodes(prefix, names), None
                name = topics[0][len(prefix) :].partition("/")[0]
                # What begins alike may come between a topic and those below it.
                names |= {name, *beginnings(name)}
                at = behind_child(prefix, topics[0])
            return self._nodes(prefix, names), at

        return read

    def _nodes(self, prefix: str, names: set[str]) -> list[TopicChild]:
        nodes = [
            TopicChild(
                name=name,
                topic=prefix + name,
                has_value=self._records.get(prefix + name) is not None,
                has_children=bool(
                    self._records.between(f"{prefix}{name}/", f"{prefix}{name}{AFTER_SLASH}", 1)
                ),
            )
            for name in names
        ]
        return [node for node in nodes if node.has_value or node.has_children]


def _found(topic: str, config: Record | None) -> FoundTopic:
    if config is None:
        return FoundTopic(topic=topic, description=None, config=None)
    message = Message.of(config, payload_limit=4 * TEXT_SHOWN_MAX)
    description = description_in(config.payload)
    return FoundTopic.cut(topic, description=description, config=message.text)
