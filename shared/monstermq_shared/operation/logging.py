"""Logs: one event is one line on standard error, as text or as JSON.

Whatever a peer sent can end up in a line (a client id, a topic, the text of an error), so nothing
in it can begin a second line, move the cursor or grow without bound. Payloads and passwords are
never logged; the names they could come under are masked should somebody try.
"""

import logging
import sys
from typing import Any

import orjson

from monstermq_shared.config import LogFormat
from monstermq_shared.records import format_timestamp

TEXT_MAX = 1024
"""Characters of a message or a value that are shown; the rest is cut off, and said to be."""

_MASKED = frozenset({"key_store_password", "pass", "password", "payload", "secret", "token"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_INT64_MAX = 2**63 - 1

# At debug level these write what they are given, and that would be payloads and passwords.
_TALKATIVE = ("aiosqlite", "asyncio", "faust", "mode", "uvicorn", "websockets")

# It warns of every request that is no good, and whoever reaches the port can send those.
_COMPLAINING = "mcp"

# While no server answers it says so forty times a second; who uses it tells of it once.
_REPETITIVE = "aiokafka"


def configure_logging(level: int, fmt: LogFormat, process: str = "") -> None:
    """Send every log record at or above ``level`` to standard error, one line each.

    It may be called again; the last call counts. Libraries are kept at warnings or less, see above.

    Args:
        level: As of the ``logging`` module.
        fmt: Text or JSON.
        process: Whose lines they are, where several processes write one log.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter if fmt is LogFormat.JSON else TextFormatter
    handler.setFormatter(formatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger(_COMPLAINING).setLevel(max(level, logging.ERROR))
    silence_kafka_client()


def silence_kafka_client() -> None:
    """Leave it to who uses Kafka's client to tell what is wrong."""
    logging.getLogger(_REPETITIVE).setLevel(logging.CRITICAL)


class TextFormatter(logging.Formatter):
    """``2026-01-15T10:30:00.123Z INFO monstermq_edge.app listening port=1883``.

    Lines of a traceback follow, each indented, so that none can pass for an event of its own.

    Args:
        process: Stands behind the level, in brackets, if there is one.
    """

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = f"[{process}] " if process else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        when = format_timestamp(int(record.created * 1000))
        source = self._process + record.name
        words = [when, record.levelname, source, escape(record.getMessage())]
        words += [f"{escape(key)}={_quoted(value)}" for key, value in _extras(record).items()]
        lines = [" ".join(words)]
        lines += ["    " + escape(line) for line in self._traceback(record).splitlines()]
        return "\n".join(lines)

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """The same event as one JSON object; a traceback is its member ``exception``.

    Args:
        process: The member ``process``, if there is one.
    """

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, without an end of line."""
        members: dict[str, Any] = {
            "time": format_timestamp(int(record.created * 1000)),
            "level": record.levelname,
            "logger": record.name,
            **self._process,
            "message": escape(record.getMessage()),
        }
        for key, value in _extras(record).items():
            members.setdefault(escape(key), value)
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            members["exception"] = [escape(line) for line in traceback.splitlines()]
        return orjson.dumps(members).decode()


def escape(text: str) -> str:
    """Return ``text`` on one line: what is not printable as its escape, the end cut off if long.

    Control characters, line and paragraph separators, and marks that turn the direction of text
    are not printable.
    """
    if len(text) > TEXT_MAX:
        text = f"{text[:TEXT_MAX]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _extras(record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    """Return what the caller gave as ``extra``, as values every format can show."""
    given = (item for item in vars(record).items() if item[0] not in _STANDARD)
    return {key: "***" if key.lower() in _MASKED else _plain(value) for key, value in given}


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) <= _INT64_MAX:
        return int(value)
    return escape(str(value))


def _quoted(value: object) -> str:
    """Write a value so that a reader can tell where it ends."""
    text = str(value)
    if text and not any(char in ' "=\\' for char in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
