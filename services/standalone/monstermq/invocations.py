"""What the operator's commands are asked for. Apart from what they do, which takes time to load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monstermq.moments import Begin
from monstermq.payload_format import PayloadFormat

LISTED_MAX = 100
"""Entries that are listed unless more are asked for."""

DIFFERENCES_MAX = 1_000
"""Differences that are told unless more are asked for; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackUp:
    """Copy the database to ``target``; ``force`` replaces whatever is there."""

    config: Path | None
    target: Path
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Put a copy of ``backup`` in the place of the database."""

    config: Path | None
    backup: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """Copy what can be read of a damaged database into a new one."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Give the PostgreSQL database to the log of the configuration."""

    config: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialize:
    """Make the role that only reads, and indexes, in the PostgreSQL database."""

    config: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipGap:
    """Let the sessions go on where retention has overtaken them."""

    config: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Show how far everything is; ``as_json`` for programs, ``watch`` again and again."""

    config: Path | None
    as_json: bool = False
    watch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuarantine:
    """List the newest ``limit`` of what is in quarantine."""

    config: Path | None
    limit: int = LISTED_MAX
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowQuarantine:
    """Show what is kept of one position, as ``list`` writes it."""

    config: Path | None
    position: str
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MendQuarantine:
    """Take out of quarantine what stands at one position, or all.

    Attributes:
        config: The configuration.
        position: As ``list`` writes it; None: everything.
        retry: Append it as a message if it can be read now; else forget it.
        as_json: For programs.
    """

    config: Path | None
    position: str | None
    retry: bool
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Show records.

    Attributes:
        config: The configuration.
        topic_filter: Which.
        begin: The first one; None: those to come.
        until_ms: Where to end, exclusive, milliseconds since 1970-01-01 UTC; None: never.
        control: Control facts, too.
        payload_format: How payloads are shown.
        archive: The archive group with the past; None: the log.
        limit: After so many it ends; None: never.
        qos: By MQTT: what to subscribe with; None: 0.
        as_json: As JSON lines.
    """

    config: Path | None
    topic_filter: str = "#"
    begin: Begin | None = None
    until_ms: int | None = None
    control: bool = False
    payload_format: PayloadFormat = PayloadFormat.AUTO
    archive: str | None = None
    limit: int | None = None
    qos: int | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Send past messages again.

    Attributes:
        config: The configuration.
        what: A filter; without ``begin`` the name of a file.
        begin: The first message.
        until_ms: Where to end, exclusive, milliseconds since 1970-01-01 UTC; None: what is there.
        archive: The archive group with the past; None: the log.
        into: The broker; None: that of the configuration.
        topic_prefix: Stands before every topic.
        speed: How many times faster than it happened; None: as fast as possible.
        dry_run: Only show what would be sent.
        qos: None: as recorded.
        retain: The same.
        archive_again: Archives are to keep it.
        with_replays: Also what was itself sent by a replay.
        skip: So many are left out, from the first: of a file or an archive group.
        positions: Where to go on in the log: partition -> offset.
        patience_s: For how long a broker that has gone is tried again.
        as_json: As JSON lines.
    """

    config: Path | None
    what: str
    begin: Begin | None = None
    until_ms: int | None = None
    archive: str | None = None
    into: str | None = None
    topic_prefix: str = ""
    speed: float | None = 1.0
    dry_run: bool = False
    qos: int | None = None
    retain: bool | None = None
    archive_again: bool = False
    with_replays: bool = False
    skip: int = 0
    positions: Mapping[int, int] | None = None
    patience_s: float = 60.0
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Compare tables with the log.

    Attributes:
        tables: Such as ``retained`` and ``archive:MCP``; all if there are none.
        as_json: For programs.
        limit: How many differences are told.
    """

    config: Path | None
    tables: tuple[str, ...] = ()
    as_json: bool = False
    limit: int = DIFFERENCES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """Make a table anew from the log.

    Attributes:
        table: Such as ``retained`` or ``archive:MCP``.
        as_json: For programs.
        anew: What an earlier call has begun is dropped.
        discard: That, and nothing else.
    """

    config: Path | None
    table: str
    as_json: bool = False
    anew: bool = False
    discard: bool = False
