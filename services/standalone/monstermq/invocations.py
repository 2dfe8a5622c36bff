"""What the operator's commands are asked for. Apart from what they do, which takes time to load."""

from dataclasses import dataclass
from pathlib import Path

LISTED_MAX = 100
"""Entries that are listed unless more are asked for."""


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
    """Show how far everything is; ``as_json`` for programs."""

    config: Path | None
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuarantine:
    """List the newest ``limit`` of what is in quarantine."""

    config: Path | None
    limit: int = LISTED_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowQuarantine:
    """Show what is kept of one position, as ``list`` writes it."""

    config: Path | None
    position: str
