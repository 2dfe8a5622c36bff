"""The command lines of what compares tables with the log, and makes them anew."""

from collections.abc import Sequence

from monstermq.invocations import DIFFERENCES_MAX, Rebuild, Verify
from monstermq_shared.errors import ConfigError
from monstermq_shared.operation.command_line import CommandLine, file_name, whole_number

LIMIT_MAX = 1_000_000_000
"""More than anybody reads."""


def parse_verify(arguments: Sequence[str]) -> Verify:
    """Read the arguments of ``verify``.

    Raises:
        ConfigError: One is unknown, or lacks its value.
    """
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("json", action="store_true")
    parser.option("limit", type=_limit, metavar="N", default=DIFFERENCES_MAX)
    parser.add_argument("tables", nargs="*", metavar="TABLE")
    parsed = parser.parse(arguments)
    return Verify(
        config=parsed.config,
        tables=tuple(parsed.tables),
        as_json=parsed.json,
        limit=parsed.limit,
    )


def parse_rebuild(arguments: Sequence[str]) -> Rebuild:
    """Read the arguments of ``rebuild``.

    Raises:
        ConfigError: One is unknown, or two exclude each other, or the table is missing.
    """
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("json", action="store_true")
    parser.option("anew", action="store_true")
    parser.option("discard", action="store_true")
    parser.add_argument("table", metavar="TABLE")
    parsed = parser.parse(arguments)
    if parsed.anew and parsed.discard:
        raise ConfigError("--anew and --discard exclude each other: both drop what was begun")
    return Rebuild(
        config=parsed.config,
        table=parsed.table,
        as_json=parsed.json,
        anew=parsed.anew,
        discard=parsed.discard,
    )


def _limit(text: str) -> int:
    return whole_number(text, 0, LIMIT_MAX)
