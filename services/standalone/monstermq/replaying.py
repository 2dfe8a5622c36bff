"""``monstermq replay``: sends past messages again, in their own rhythm or faster."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from monstermq.bookmarks import Bookmark, CountBookmark, Mark, PositionBookmark, TimeBookmark
from monstermq.invocations import Replay
from monstermq.moments import Begin, Moment
from monstermq.mqtt_link import Address, Publication, address_of, address_of_broker
from monstermq.reaching import reached_bus
from monstermq.sending import Sender
from monstermq.sources import (
    Advance,
    FileSource,
    LogSource,
    Past,
    Source,
    archive_source,
    check_filter,
    check_order,
)
from monstermq.stretch import Stretch, go_on_at, stretch_of
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.errors import ConfigError, InvalidTopic, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import Record, format_timestamp
from monstermq_shared.replays import ARCHIVED_AGAIN, REPLAYED, is_replayed
from monstermq_shared.topics import TOPIC_SIZE_MAX, check_topic_name

TOGETHER_S = 0.005
"""Messages that are due within so long are sent together."""

TOPICS_MAX = 100_000
"""So many topics are counted; then it is said that there are more."""


def replay(invocation: Replay, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Show what will be sent, and send it.

    Raises:
        ConfigError: The configuration or what was asked for is wrong.
        StartupError: What is to be sent cannot be read, or the broker does not take it.
        StoreError, QueryError: The archive cannot be asked.
    """
    config = load_config(invocation.config, environ).config
    address = address_of(invocation.into) if invocation.into else address_of_broker(config)
    _check(invocation)
    terminal = Terminal(output, as_json=invocation.as_json)
    return run_tool(_replay(invocation, config, address, terminal))


def _check(invocation: Replay) -> None:
    if invocation.begin is None and (invocation.until_ms is not None or invocation.archive):
        raise ConfigError("--to and --archive belong to a replay from the log: say --from, too")
    from_log = invocation.begin is not None and invocation.archive is None
    if from_log and invocation.skip:
        raise ConfigError(
            "--skip counts the messages of a file or of an archive group; what the log has changes "
            "meanwhile, and a replay from it is gone on with by --continue POSITIONS"
        )
    if invocation.positions is not None and not from_log:
        raise ConfigError("--continue is about the log: a file is gone on with by --skip N")
    if invocation.begin is not None:
        check_filter(invocation.what)
        check_order(invocation.begin, invocation.until_ms)
    if invocation.topic_prefix:
        try:
            check_topic_name(invocation.topic_prefix, levels_max=TOPIC_SIZE_MAX)
        except InvalidTopic as exc:
            raise ConfigError(f"--topic-prefix: {exc}") from exc


@asynccontextmanager
async def opened_source(
    invocation: Replay, config: BrokerConfig, terminal: Terminal
) -> AsyncIterator[tuple[Source, Bookmark]]:
    """Open what is sent again, and what keeps its place, for as long as the block lasts.

    Raises:
        ConfigError, StartupError, StoreError, QueryError: See ``replay``.
    """
    begin, until_ms, skip = invocation.begin, invocation.until_ms, invocation.skip
    if begin is None:
        yield FileSource(Path(invocation.what)), CountBookmark(skip)
        return
    filters = (invocation.what,)
    if until_ms is not None and until_ms > SystemClock().wall_ms():
        terminal.note("--to is still to come: what is there now is sent")
    if invocation.archive is not None:
        end_ms = until_ms or SystemClock().wall_ms()
        group = archive_source(config, invocation.archive, filters, begin, end_ms)
        async with group as source:
            yield source, TimeBookmark(source.since_ms, until_ms, skip)
        return
    if not config.kafka.bus.enabled:
        raise ConfigError(
            "the internal bus keeps no past (Kafka.Bus.Enabled is false): name an archive group "
            "with --archive NAME"
        )
    async with reached_bus(config) as bus:
        log = bus.messages
        stretch = await stretch_of(log, begin, until_ms)
        if invocation.positions is not None:
            await go_on_at(log, stretch, invocation.positions)
        if stretch.warning:
            terminal.note(stretch.warning)
        yield LogSource(log, stretch, filters), _in_log(begin, stretch)


def _in_log(begin: Begin, stretch: Stretch) -> PositionBookmark:
    since = format_timestamp(begin.time_ms) if isinstance(begin, Moment) else str(begin)
    return PositionBookmark(since, stretch.until_ms, stretch.goes_on_at or stretch.begins)


@dataclass(slots=True)
class Plan:
    """What will be sent.

    Attributes:
        count: How many messages.
        size: Bytes of their payloads.
        topics: Their topics, the first ``TOPICS_MAX``, as 64 bits of each: they may be long.
        first_ms, last_ms: The times of the oldest and the newest; -1 without any.
        replayed: Messages that a replay had sent.
        reserved: Messages on topics that begin with $, which no client may publish to.
        left_out: How many are not sent, of both kinds.
    """

    count: int = 0
    size: int = 0
    topics: set[int] = field(default_factory=set)
    first_ms: int = -1
    last_ms: int = -1
    replayed: int = 0
    reserved: int = 0
    left_out: int = 0

    def note(self, chosen: Sequence[Past]) -> None:
        """Take messages that will be sent."""
        if not chosen:
            return
        records = [record for record, _ in chosen]
        self.count += len(records)
        self.size += sum(len(record.payload) for record in records)
        times = [record.timestamp_ms for record in records]
        self.first_ms = min(times) if self.first_ms < 0 else min(self.first_ms, *times)
        self.last_ms = max(self.last_ms, *times)
        if len(self.topics) <= TOPICS_MAX:
            self.topics.update(hash(record.topic) for record in records)

    @property
    def topic_count(self) -> str:
        """How many topics, for people."""
        count = len(self.topics)
        return f"more than {TOPICS_MAX}" if count > TOPICS_MAX else str(count)


class Selection:
    """Which of the messages are sent, and as what.

    Args:
        invocation: What was asked for.
        plan: Counts what is left out.
    """

    def __init__(self, invocation: Replay, plan: Plan) -> None:
        self._plan = plan
        self._prefix = invocation.topic_prefix
        self._replays_too = invocation.with_replays
        self._qos = invocation.qos
        self._retain = invocation.retain

    def chosen(self, some: Sequence[Past]) -> list[Past]:
        """Return those that are sent, in order."""
        chosen = []
        for past in some:
            record = past[0]
            replayed = is_replayed(record.client_id)
            reserved = record.topic.startswith("$") and not self._prefix
            self._plan.replayed += replayed
            self._plan.reserved += reserved
            if reserved or (replayed and not self._replays_too):
                self._plan.left_out += 1
            else:
                chosen.append(past)
        return chosen

    def publication(self, record: Record) -> Publication:
        """Return what a record is sent as.

        Raises:
            StartupError: With the prefix its topic is too long.
        """
        topic = (self._prefix + record.topic).encode()
        if len(topic) > TOPIC_SIZE_MAX:
            raise StartupError(
                f"with the prefix a topic has {len(topic)} bytes, more than MQTT allows: "
                f"{record.topic[:100]!r}...",
                exit_code=ExitCode.FAILURE,
            )
        qos = record.qos if self._qos is None else self._qos
        retain = record.retained if self._retain is None else self._retain
        return Publication(topic, record.payload, qos, retain)


async def _replay(
    invocation: Replay, config: BrokerConfig, address: Address, terminal: Terminal
) -> ExitCode:
    async with opened_source(invocation, config, terminal) as (source, bookmark):
        plan = Plan()
        selection = Selection(invocation, plan)
        with terminal.progress(f"looks at {source.named}", source.total) as steps:
            async for some in source.records(steps.advance):
                plan.note(selection.chosen(some))
        _tell_plan(plan, invocation, source, address, terminal)
        if 0 < plan.count <= invocation.skip:
            terminal.note(f"--skip {invocation.skip} leaves out all of them: nothing is sent")
        if invocation.dry_run or plan.count <= invocation.skip:
            return ExitCode.OK
        run = _Run(invocation, address, plan, bookmark, terminal)
        await run.play(source)
    return ExitCode.OK


def _tell_plan(
    plan: Plan, invocation: Replay, source: Source, address: Address, terminal: Terminal
) -> None:
    members: dict[str, Any] = {
        "source": source.named,
        "into": address.text,
        "topicPrefix": invocation.topic_prefix,
        "messages": plan.count,
        "bytes": plan.size,
        "topics": len(plan.topics),
        "replayed": plan.replayed,
        "leftOut": plan.left_out,
        "skip": invocation.skip,
    }
    text = f"{source.named}: no message to send"
    if plan.count:
        first, last = format_timestamp(plan.first_ms), format_timestamp(plan.last_ms)
        members |= {"from": first, "to": last}
        topics = f"{plan.topic_count} topics"
        prefix = f", below {invocation.topic_prefix}" if invocation.topic_prefix else ""
        text = (
            f"{source.named}: {plan.count} messages ({plan.size} bytes) on {topics}, from {first} "
            f"to {last}\nto {address.text}{prefix}, {_pace(plan, invocation)}"
        )
    terminal.tell(text, members)
    terminal.output.flush()
    if plan.replayed:
        done = "are sent, too" if invocation.with_replays else "are left out (--with-replays)"
        terminal.note(f"{plan.replayed} of them were sent by a replay; they {done}")
    if plan.reserved:
        terminal.note(
            f"{plan.reserved} are on topics that begin with $, which no client may publish to; "
            "they are left out (with --topic-prefix they are sent)"
        )


def _pace(plan: Plan, invocation: Replay) -> str:
    if invocation.speed is None:
        return "as fast as possible"
    seconds = (plan.last_ms - plan.first_ms) / 1000 / invocation.speed
    return f"at {invocation.speed:g} times its speed: in {seconds:.1f} s"


class _Run:
    """One replay.

    Args:
        invocation: What was asked for.
        address: Where to.
        plan: What there is.
        bookmark: Keeps the place of what has arrived.
        terminal: Where it is told.
    """

    def __init__(
        self,
        invocation: Replay,
        address: Address,
        plan: Plan,
        bookmark: Bookmark,
        terminal: Terminal,
    ) -> None:
        self._invocation = invocation
        self._address = address
        self._plan = plan
        self._bookmark = bookmark
        self._terminal = terminal
        # What is left out was counted when the plan was made.
        self._selection = Selection(invocation, replace(plan))
        self._to_skip = invocation.skip
        self._under_way: deque[Mark] = deque()
        self._begun_s = 0.0
        self._first_ms: int | None = None

    async def play(self, source: Source) -> None:
        """Send everything.

        Raises:
            StartupError: See ``Sender``; or there was less to send than at the first look.
        """
        invocation, loop = self._invocation, asyncio.get_running_loop()
        mark = ARCHIVED_AGAIN if invocation.archive_again else REPLAYED
        total = self._plan.count - invocation.skip
        with self._terminal.progress("sends", total, "messages") as steps:

            def arrived(count: int) -> None:
                steps.advance(count)
                self._bookmark.passed([self._under_way.popleft() for _ in range(count)])

            sender = Sender(
                self._address,
                f"{mark}{secrets.token_hex(6)}",
                invocation.patience_s,
                arrived,
                self._terminal.note,
                self._beyond_next,
            )
            try:
                await sender.open()
                self._begun_s = loop.time()
                await self._send_all(source, sender)
                await sender.finish()
            except BaseException:
                await sender.close()
                self._tell_end(sender)
                raise
        seconds = loop.time() - self._begun_s
        self._terminal.tell(
            f"{sender.sent} messages have arrived in {seconds:.1f} s "
            f"({sender.sent / (seconds or 1):.0f} /s)",
            {"sent": sender.sent, "seconds": round(seconds, 3)},
        )
        self._check_count(sender.sent, total)

    def _check_count(self, sent: int, expected: int) -> None:
        """Tell if the source has changed between the first look and the sending."""
        if sent > expected:
            self._terminal.note(f"{sent - expected} of them have come since the first look")
        if sent < expected:
            raise StartupError(
                f"{expected} messages were there at the first look, and {sent} when they were "
                "sent: the others were deleted meanwhile",
                exit_code=ExitCode.FAILURE,
            )

    def _beyond_next(self) -> str:
        """Return the options that leave out the first message that has not arrived."""
        return self._bookmark.options(self._plan.last_ms, [self._under_way[0]])

    def _tell_end(self, sender: Sender) -> None:
        """Say what has arrived, and how to go on."""
        count = self._plan.count - self._invocation.skip
        self._terminal.note(
            f"{sender.sent} of {count} messages have arrived; the same command with "
            f"{self._bookmark.options(self._plan.last_ms)} goes on there"
        )

    async def _send_all(self, source: Source, sender: Sender) -> None:
        ignore: Advance = _nothing
        async for some in source.records(ignore):
            chosen = self._selection.chosen(some)
            skipped, chosen = chosen[: self._to_skip], chosen[self._to_skip :]
            self._to_skip -= len(skipped)
            self._bookmark.skipped([mark for _, mark in skipped])
            if self._invocation.speed is None:
                await self._send(chosen, sender)
            else:
                await self._send_in_time(chosen, sender, self._invocation.speed)

    async def _send(self, due: Sequence[Past], sender: Sender) -> None:
        self._under_way += [mark for _, mark in due]
        await sender.send([self._selection.publication(record) for record, _ in due])

    async def _send_in_time(self, some: Sequence[Past], sender: Sender, speed: float) -> None:
        """Send each when its time has come; those that are due together in one go."""
        loop = asyncio.get_running_loop()
        due: list[Past] = []
        for past in some:
            time_ms = past[0].timestamp_ms
            if self._first_ms is None:
                self._first_ms = time_ms
            at_s = self._begun_s + (time_ms - self._first_ms) / 1000 / speed
            if at_s > loop.time() + TOGETHER_S:
                await self._send(due, sender)
                due = []
                await sender.until(at_s)
            due.append(past)
        await self._send(due, sender)


def _nothing(_count: int) -> None:
    """Nobody wants to know."""
