"""``monstermq quarantine``: shows what stands in the log and is no record."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from monstermq.invocations import ListQuarantine, ShowQuarantine
from monstermq.reaching import reached_database
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.logging import escape
from monstermq_shared.positions import Partition
from monstermq_shared.records import format_timestamp
from monstermq_shared.stores.ports import QuarantineEntry
from monstermq_shared.stores.postgres.database import PostgresDatabase

_POSITION = re.compile(r"(?:(?P<log>\S+)/)?(?P<partition>\d{1,9}):(?P<offset>\d{1,18})", re.ASCII)
_SESSIONS = "sessions"
_HEX_WIDTH = 16


def list_quarantine(
    invocation: ListQuarantine, environ: Mapping[str, str], output: TextIO
) -> ExitCode:
    """List what is in quarantine, the newest first.

    Raises:
        ConfigError: The configuration is wrong, or has nothing in PostgreSQL.
        StartupError, StoreError: The database cannot be used.
    """
    config = load_config(invocation.config, environ).config
    terminal = Terminal(output, as_json=invocation.as_json)
    return run_tool(_list(config, invocation.limit, terminal))


async def _list(config: BrokerConfig, limit: int, terminal: Terminal) -> ExitCode:
    async with reached_database(config) as database:
        owner = await database.owner()
        entries = await database.quarantined(limit=limit)
        kept, dropped = await database.quarantine_counts()
    told = [_listed(at, owner) for at in entries]
    if terminal.as_json:
        for members in told:
            terminal.tell("", members)
    elif told:
        terminal.table([*told[0]], [[str(value) for value in at.values()] for at in told])
    more = f", {len(entries)} of them listed" if len(entries) < kept else ""
    terminal.tell(
        f"{kept} in quarantine{more}; {dropped} older ones were dropped to make room",
        {"kept": kept, "listed": len(entries), "dropped": dropped},
    )
    return ExitCode.OK


def _listed(entry: QuarantineEntry, owner: str | None) -> dict[str, Any]:
    return {
        "position": position_of(entry, owner),
        "timestamp": format_timestamp(entry.record.time_ms),
        "bytes": entry.record.size,
        "reason": entry.record.reason,
    }


def show_quarantine(
    invocation: ShowQuarantine, environ: Mapping[str, str], output: TextIO
) -> ExitCode:
    """Show what is kept of one position.

    Raises:
        ConfigError: The configuration is wrong, or what was given is no position.
        StartupError, StoreError: The database cannot be used, or has nothing of that position.
    """
    match = matched(invocation.position)
    config = load_config(invocation.config, environ).config
    return run_tool(_show(config, match, Terminal(output, as_json=invocation.as_json)))


def matched(position: str) -> "re.Match[str]":
    """Return the parts of a position as ``list`` writes it.

    Raises:
        ConfigError: It is none.
    """
    match = _POSITION.fullmatch(position)
    if match is None:
        raise ConfigError(
            f"{position[:80]!r} is not a position; write it as monstermq quarantine "
            "list does, such as 3:17 or sessions/3:17"
        )
    return match


async def _show(config: BrokerConfig, match: "re.Match[str]", terminal: Terminal) -> ExitCode:
    async with reached_database(config) as database:
        owner = await database.owner()
        entry = await entry_at(database, match)
    terminal.tell("\n".join(_described(entry)), _members(entry, owner))
    return ExitCode.OK


async def entry_at(database: PostgresDatabase, match: "re.Match[str]") -> QuarantineEntry:
    """Return what is in quarantine of a position.

    Raises:
        StartupError: Nothing is.
    """
    log = match["log"]
    owner = await database.owner() or ""
    generation = {None: owner, _SESSIONS: owner + SESSIONS_SUFFIX}.get(log, log)
    partition = Partition(generation, int(match["partition"]))
    entry = await database.quarantined_at(partition, int(match["offset"]))
    if entry is None:
        raise StartupError(
            f"PostgreSQL at {database.where}: nothing is in quarantine of position {match[0]}; see "
            "monstermq quarantine list",
            exit_code=ExitCode.FAILURE,
        )
    return entry


def position_of(entry: QuarantineEntry, owner: str | None) -> str:
    """Return where it stands, as people write it."""
    generation, partition = entry.partition
    text = f"{partition}:{entry.record.offset}"
    if generation == owner:
        return text
    if owner is not None and generation == owner + SESSIONS_SUFFIX:
        return f"{_SESSIONS}/{text}"
    return f"{generation}/{text}"


def _members(entry: QuarantineEntry, owner: str | None) -> dict[str, Any]:
    record = entry.record
    return _listed(entry, owner) | {
        "log": entry.partition.generation,
        "keyBase64": base64.b64encode(record.key).decode(),
        "headers": [
            {"name": name, "valueBase64": base64.b64encode(value).decode()}
            for name, value in record.headers
        ],
        "valueBase64": base64.b64encode(record.value).decode(),
        "whole": len(record.value) + len(record.key) == record.size,
    }


def _described(entry: QuarantineEntry) -> Iterator[str]:
    record = entry.record
    yield f"log      {entry.partition.generation}"
    yield f"position {entry.partition.number}:{record.offset}"
    yield f"time     {format_timestamp(record.time_ms)}"
    yield f"reason   {escape(record.reason)}"
    yield f"key      {_readable(record.key)}"
    for name, value in record.headers:
        yield f"header   {escape(name)}: {value.hex(' ')}"
    kept = len(record.value) + len(record.key)
    cut = f", of which the first {kept} are kept" if kept < record.size else ""
    yield f"value    {record.size - len(record.key)} bytes{cut}"
    text = _as_text(record.value)
    yield from _hex_lines(record.value) if text is None else text.splitlines()


def _readable(data: bytes) -> str:
    text = _as_text(data)
    return data.hex(" ") if text is None or "\n" in text else text


def _as_text(data: bytes) -> str | None:
    """Return what bytes say, None if a terminal should not be shown that."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").replace("\t", "").isprintable() else None


def _hex_lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _HEX_WIDTH):
        part = data[start : start + _HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):{_HEX_WIDTH * 3}} {text}"
