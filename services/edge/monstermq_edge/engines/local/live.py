"""What is published, seen and done from another thread: live messages, and publishing.

Watching is a clean session that subscribes at QoS 0: so a watch costs what a subscriber costs, and
messages that nobody watches cost nothing.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from monstermq_shared.bus.publishing import LogPublisher
from monstermq_shared.bus.watching import MessageWatch, Published, check_room
from monstermq_shared.clock import Clock
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.errors import BusUnavailable, InvalidTopic, QueryRefused
from monstermq_shared.messages import MessageRun
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.live import Publication
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.ports import Answer, AttachRequest, Link
from monstermq_shared.topics import check_topic_filter

BEGIN_S = 10.0
"""How long a watch may take to begin."""

_INFORMATION: dict[str, str | int | bool] = {"ProtocolVersion": 4, "RemoteAddress": "MCP"}


class LiveMessages:
    """See ``queries.ports.LiveFeed``; its calls are made in any event loop but the broker's.

    Args:
        engine: Where messages go through.
        loop: The broker's.
        clock: Both clocks.
        touch: Makes sure that the broker's loop turn is finished.
    """

    def __init__(
        self,
        engine: LocalEngine,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        touch: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._clock = clock
        self._touch = touch
        self._watches = 0

    @asynccontextmanager
    async def watch(
        self, filters: Sequence[str], *, payload_limit: int
    ) -> AsyncIterator[MessageWatch]:
        """See ``LiveFeed.watch``."""
        wanted = checked_filters(filters)
        check_room(self._watches)
        self._watches += 1
        link = WatchLink(MessageWatch(payload_limit), self._clock)
        try:
            beginning = asyncio.run_coroutine_threadsafe(self._begin(link, wanted), self._loop)
            try:
                async with asyncio.timeout(BEGIN_S):
                    await asyncio.wrap_future(beginning)
            except TimeoutError as exc:
                raise BusUnavailable("the broker is too busy to begin a watch") from exc
            yield link.watch
        finally:
            self._watches -= 1
            with suppress(RuntimeError):  # the broker's loop has ended
                self._loop.call_soon_threadsafe(self._end, link)

    # -- in the broker's loop --------------------------------------------------------------------

    async def _begin(self, link: "WatchLink", filters: Sequence[str]) -> None:
        engine = self._engine
        _check_levels(filters, engine.settings.topic_levels_max)
        free = asyncio.Event()
        if engine.is_postponed(free.set):
            await free.wait()
        client_id = f"mcp-watch-{secrets.token_hex(8)}"
        refusal = engine.refusal(client_id, clean=True)
        if refusal is not None:
            raise BusUnavailable(refusal[1])
        request = AttachRequest(
            client_id=client_id, clean=True, will=None, information=_INFORMATION
        )
        link.session = session = engine.attach(link, request, self._clock.wall_ms())
        self._touch()
        for topic_filter in filters:
            # Without what is retained: that is no news.
            problem = engine.subscriptions.route(session, topic_filter, 0)
            if problem:
                raise QueryRefused(f"{topic_filter[:80]!r}: {problem}")

    def _end(self, link: "WatchLink") -> None:
        session, link.session = link.session, None
        if session is not None:
            wall_ms = self._clock.wall_ms()
            self._engine.detach(session, CloseReason.CLIENT_DISCONNECTED, wall_ms)
            self._touch()


def _check_levels(filters: Sequence[str], levels_max: int) -> None:
    for topic_filter in filters:
        try:
            check_topic_filter(topic_filter, levels_max=levels_max)
        except InvalidTopic as exc:
            raise QueryRefused(str(exc)) from exc


class WatchLink(Link):
    """The engine's side of a watch; see ``sessions.ports.Link``. Nothing ever leaves it unsent.

    Args:
        watch: What it fills.
        clock: When messages come.

    Attributes:
        watch: See above.
        session: The engine's, while there is one.
    """

    def __init__(self, watch: MessageWatch, clock: Clock) -> None:
        super().__init__()
        self.watch = watch
        self.session: Session | None = None
        self._clock = clock

    @property
    def is_held(self) -> bool:
        """See ``Link``: it publishes nothing."""
        return False

    def forward(self, run: MessageRun) -> None:
        """See ``Link.forward``."""
        watch = self.watch
        if not watch.has_room():
            watch.dropped += run.count
            return
        time_ms = self._clock.wall_ms()
        for payload in run.payloads:
            watch.put(Published(run.topic, payload, time_ms, run.qos, run.retain))

    def close(self, reason: CloseReason) -> None:
        """See ``Link.close``."""
        self.session = None
        why = reason.name.replace("_", " ").lower()
        self.watch.end(f"the broker has ended this watch ({why}); call again")

    def has_room(self) -> bool:
        """See ``Link.has_room``."""
        return True

    def hold(self) -> None:
        """See ``Link``: it publishes nothing."""

    def resume(self) -> None:
        """See ``Link``."""

    def attached(self, session_present: bool) -> None:
        """See ``Link``: nobody waits for it."""

    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See ``Link``: what is retained is no news."""

    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """See ``Link``: it subscribes at QoS 0."""

    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """See ``Link``: it publishes nothing."""

    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """See ``Link``: nobody waits for it."""

    def unsubscribed(self, packet_id: int) -> None:
        """See ``Link``: nobody waits for it."""


class PublisherElsewhere:
    """See ``queries.ports.Publisher``; its calls are made in any event loop but the broker's.

    Args:
        publisher: The broker's.
        loop: The broker's.
    """

    def __init__(self, publisher: LogPublisher, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher = publisher
        self._loop = loop

    async def publish(self, publication: Publication) -> None:
        """See ``Publisher.publish``."""
        publishing = self._publisher.publish(publication)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(publishing, self._loop))
