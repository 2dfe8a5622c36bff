"""``monstermq tail``: shows records as they come, and those that have come."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import TextIO

from monstermq.invocations import Tail
from monstermq.log_scan import LogScan, Picker, PositionedEntry
from monstermq.moments import Moment
from monstermq.mqtt_link import (
    Address,
    LinkLost,
    LinkRefused,
    MqttLink,
    Received,
    address_of_broker,
)
from monstermq.reaching import reached_bus
from monstermq.record_lines import json_line, readable, standing_line, text_line
from monstermq.sources import archive_source, check_filter, check_order
from monstermq.stretch import Stretch, rest_of, stretch_of
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.errors import BusGap, ConfigError, InvalidRecord, StartupError, UnknownFact
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import Record
from monstermq_shared.retries import pause

SETTLE_S = 5.0
"""So long after the time at which to end it is waited for what an edge appends a little late."""


def tail(invocation: Tail, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Show records until it is stopped, or until the end that was asked for.

    Raises:
        ConfigError: The configuration or what was asked for is wrong.
        StartupError: Kafka or the broker cannot be reached.
        StoreError, QueryError: The archive cannot be asked.
    """
    config = load_config(invocation.config, environ).config
    check_filter(invocation.topic_filter)
    begin, until_ms = invocation.begin, invocation.until_ms
    if begin is None and until_ms is not None and until_ms <= SystemClock().wall_ms():
        raise ConfigError("--to is a time that has been, and nothing is before it: say --from, too")
    check_order(begin, until_ms)
    if invocation.qos is not None and (invocation.archive or config.kafka.bus.enabled):
        raise ConfigError(
            "--qos belongs to what is seen by MQTT, and this is read where it is kept"
        )
    shown = _Shown(invocation, Terminal(output, as_json=invocation.as_json))
    if invocation.archive is not None:
        work = _tail_archive(invocation, config, invocation.archive, shown)
    elif config.kafka.bus.enabled:
        work = _tail_log(invocation, config, shown)
    else:
        if begin is not None or invocation.control:
            raise ConfigError(
                "the internal bus keeps no past and shows no control facts (Kafka.Bus.Enabled is "
                "false): for the past name an archive group with --archive NAME"
            )
        work = _tail_broker(invocation, address_of_broker(config), shown)
    return run_tool(work, when_stopped=ExitCode.OK)


class _Enough(Exception):
    """As many were shown as were asked for."""


class _Shown:
    """Writes records.

    Args:
        invocation: How.
        terminal: Where.
    """

    def __init__(self, invocation: Tail, terminal: Terminal) -> None:
        self.terminal = terminal
        self._payload_format = invocation.payload_format
        self._left = invocation.limit

    def standing(self, found: Sequence[PositionedEntry]) -> None:
        """Write what stands in the log.

        Raises:
            _Enough: See there.
        """
        self._write(self._json_lines(found) if self.terminal.as_json else self._lines(found))

    def records(self, records: Sequence[Record]) -> None:
        """Write messages whose place in a log is not known.

        Raises:
            _Enough: See there.
        """
        if self.terminal.as_json:
            self._write([json_line(record).decode() for record in records])
        else:
            self._write([text_line(record, "", self._payload_format) for record in records])

    def _json_lines(self, found: Sequence[PositionedEntry]) -> list[str]:
        lines = []
        for at in found:
            try:
                lines.append(standing_line(at))
            except (InvalidRecord, UnknownFact) as exc:
                self._tell_bad(at, exc)
        return b"\n".join(lines).decode().split("\n") if lines else []

    def _lines(self, found: Sequence[PositionedEntry]) -> list[str]:
        lines = []
        for at in found:
            record = readable(at)
            if record is not None:
                lines.append(text_line(record, at.position, self._payload_format))
        return lines

    def _tell_bad(self, at: PositionedEntry, exc: Exception) -> None:
        self.terminal.note(f"position {at.position}: {exc}")

    def _write(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        if self._left is not None:
            lines = lines[: self._left]
            self._left -= len(lines)
        self.terminal.output.write("\n".join(lines) + "\n")
        if self._left == 0:
            self.terminal.output.flush()
            raise _Enough


async def _tail_log(invocation: Tail, config: BrokerConfig, shown: _Shown) -> ExitCode:
    terminal = shown.terminal
    async with reached_bus(config) as bus:
        log, until_ms = bus.messages, invocation.until_ms
        comes = until_ms is None or until_ms > SystemClock().wall_ms()
        stretch = await stretch_of(log, invocation.begin, until_ms)
        if stretch.warning:
            terminal.note(stretch.warning)
        filters = (invocation.topic_filter,)
        picker = Picker(filters, log.lateness_ms, control=invocation.control)

        def tell_gap(gap: BusGap) -> None:
            terminal.note(f"{gap}: Kafka.Bus.RetentionHours has passed over them")

        scan = LogScan(log, stretch, picker, tell_gap)
        try:
            await _show_past(scan, stretch, shown)
            if comes:
                try:
                    async with asyncio.timeout(_left_s(until_ms)):
                        async for found in scan.live():
                            shown.standing(found)
                            terminal.output.flush()
                except TimeoutError:
                    rest = await rest_of(log, scan.positions, until_ms)
                    await _show_past(LogScan(log, rest, picker, tell_gap), rest, shown)
        except _Enough:
            pass
        finally:
            if picker.counts.foreign:
                terminal.note(
                    f"{picker.counts.foreign} records are none of MonsterMQ's, or of a later "
                    "release: see monstermq quarantine list"
                )
    return ExitCode.OK


async def _show_past(scan: LogScan, stretch: Stretch, shown: _Shown) -> None:
    terminal = shown.terminal
    with terminal.progress("reads the log", stretch.count, beside_results=True) as steps:
        async for found in scan.past(steps.advance):
            shown.standing(found)
    terminal.output.flush()


def _left_s(until_ms: int | None) -> float | None:
    """Return how long to wait for what comes; None: without an end."""
    if until_ms is None:
        return None
    return max(0.0, (until_ms - SystemClock().wall_ms()) / 1000) + SETTLE_S


async def _tail_archive(
    invocation: Tail, config: BrokerConfig, name: str, shown: _Shown
) -> ExitCode:
    if invocation.control:
        raise ConfigError("an archive group has no control facts: leave --control out")
    begin = Moment(0) if invocation.begin is None else invocation.begin
    until_ms = invocation.until_ms or SystemClock().wall_ms() + 1
    filters = (invocation.topic_filter,)
    async with archive_source(config, name, filters, begin, until_ms) as source:
        shown.terminal.note(f"from {source.named}; what comes now is shown without --archive")
        try:
            with shown.terminal.progress(
                f"reads {source.named}", None, beside_results=True
            ) as steps:
                async for some in source.records(steps.advance):
                    shown.records([record for record, _ in some])
        except _Enough:
            pass
    shown.terminal.output.flush()
    return ExitCode.OK


async def _tail_broker(invocation: Tail, address: Address, shown: _Shown) -> ExitCode:
    # While some are written nothing is read, so this has no more than was read at a time; what a
    # terminal is too slow for, the broker drops and counts (QoS 0), or holds.
    waiting: deque[Received] = deque()
    came = asyncio.Event()

    def take(message: Received) -> None:
        if message.retain:  # it was retained before, and is not what happens now
            return
        waiting.append(message)
        came.set()

    shown.terminal.note(
        f"live from {address.text}, by MQTT: who published is not told, and the time is this "
        "machine's; the past is in archive groups (--archive NAME)"
    )
    following = asyncio.create_task(_follow(invocation, address, shown.terminal, take))
    until_ms = invocation.until_ms
    within_s = None if until_ms is None else (until_ms - SystemClock().wall_ms()) / 1000
    try:
        async with asyncio.timeout(within_s):
            while True:
                waited = asyncio.create_task(came.wait())
                await asyncio.wait({waited, following}, return_when=asyncio.FIRST_COMPLETED)
                waited.cancel()
                if following.done():
                    following.result()
                came.clear()
                now_ms = SystemClock().wall_ms()
                records = [_record(message, now_ms) for message in waiting]
                waiting.clear()
                shown.records(records)
                shown.terminal.output.flush()
    except (_Enough, TimeoutError):
        return ExitCode.OK
    finally:
        following.cancel()


async def _follow(
    invocation: Tail, address: Address, terminal: Terminal, take: Callable[[Received], None]
) -> None:
    """Stay subscribed, over all breaks but the first failure.

    Raises:
        StartupError: The broker is not there at the start, or does not want us.
    """
    connected_once = False
    failures = 0
    while True:
        link = MqttLink(address, f"monstermq-tail-{token_hex(6)}", take)
        try:
            await link.connect()
            await link.subscribe([invocation.topic_filter], invocation.qos or 0)
            connected_once, failures = True, 0
            terminal.note(f"{await link.ended()}; it is tried again")
        except LinkRefused as exc:
            raise StartupError(str(exc), exit_code=ExitCode.FAILURE) from exc
        except LinkLost as exc:
            if not connected_once:
                raise StartupError(str(exc), exit_code=ExitCode.FAILURE) from exc
        finally:
            await link.close()
        await pause(failures)
        failures += 1


def _record(message: Received, now_ms: int) -> Record:
    topic = message.topic.decode(errors="replace")
    return Record(topic, message.payload, message.qos, message.retain, "", now_ms, 0)
