"""The building blocks of the configuration's models: the section, and the types of its keys."""

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
)

from monstermq_shared.origins import ANY_ORIGIN, OPAQUE_ORIGIN, parse_origin

# Spellings of the original's keys that capitalizing each word does not give.
_WORDS = {
    "tcp": "TCP",
    "tcps": "TCPS",
    "ws": "WS",
    "wss": "WSS",
    "tls": "TLS",
    "qos": "QoS",
    "mcp": "MCP",
    "sqlite": "SQLite",
    "cratedb": "CrateDB",
    "mongodb": "MongoDB",
    "websocket": "WebSocket",
}


def yaml_name(attribute: str) -> str:
    """Return the YAML key of a Python attribute: ``max_message_size_kb`` is MaxMessageSizeKb."""
    if attribute == "password":
        return "Pass"
    return "".join(_WORDS.get(word, word.capitalize()) for word in attribute.split("_"))


class Section(BaseModel):
    """A mapping of the configuration: frozen, typed, with no key that is not named here.

    Attributes are made with their Python names in code and with the YAML's in a file; the
    attribute's docstring is the key's documentation, in the schema and in the reference.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=yaml_name,
        populate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def keys_of(section: type[Section]) -> dict[str, Any]:
    """Return YAML key -> type of a section's fields."""
    return {str(field.alias): field.annotation for field in section.model_fields.values()}


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that ``word`` was probably meant to be, whatever its case."""
    folded = {candidate.casefold(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean X?", or which words there are if none is near."""
    candidates = list(candidates)
    match = nearest(word, candidates)
    return f"; did you mean {match}?" if match else f"; there are {', '.join(sorted(candidates))}"


class StoreType(StrEnum):
    """What keeps a table. Each key allows some of them."""

    NONE = "NONE"
    MEMORY = "MEMORY"
    HAZELCAST = "HAZELCAST"
    POSTGRES = "POSTGRES"
    CRATEDB = "CRATEDB"
    MONGODB = "MONGODB"
    KAFKA = "KAFKA"
    SQLITE = "SQLITE"


class QueuePolicy(StrEnum):
    """What gives way when a session's queue is full."""

    DROP_OLDEST = "DROP_OLDEST"
    DROP_NEWEST = "DROP_NEWEST"


class ProjectorKind(StrEnum):
    """What a projector makes of the logs."""

    VIEWS = "VIEWS"
    SESSIONS = "SESSIONS"


class PayloadFormat(StrEnum):
    """What the value of a Kafka record is."""

    RECORD = "RECORD"
    RAW = "RAW"


class Compression(StrEnum):
    """How batches to Kafka are compressed."""

    NONE = "NONE"
    GZIP = "GZIP"
    SNAPPY = "SNAPPY"
    LZ4 = "LZ4"
    ZSTD = "ZSTD"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "TEXT"
    JSON = "JSON"


def choice(
    *members: StrEnum, instead: Mapping[str, str] | None = None
) -> tuple[BeforeValidator, WithJsonSchema]:
    """Accept the names of these members, in any case and with ``-`` for ``_``.

    Args:
        members: What may be chosen.
        instead: What to write for a name that is not among them and is tried all the same.
    """
    names = {member.value: member for member in members}
    spellings = {name.replace("-", "_"): member for name, member in names.items()}
    others = instead or {}

    def choose(value: object) -> StrEnum:
        if isinstance(value, str):
            name = value.strip().upper().replace("-", "_")
            if name in spellings:
                return spellings[name]
            hint = f"; {others[name]}" if name in others else suggestion(value, names)
            raise ValueError(f"cannot be {value[:40]!r}{hint}")
        raise ValueError(f"must be one of {', '.join(names)}")

    return BeforeValidator(choose), WithJsonSchema({"type": "string", "enum": list(names)})


_RDBMS = (StoreType.POSTGRES, StoreType.CRATEDB, StoreType.MONGODB, StoreType.SQLITE)

SessionStore = Annotated[
    StoreType,
    *choice(*_RDBMS, instead={"MEMORY": "use SQLITE with SQLite: { Path: ':memory:' }"}),
]
_NOT_BY_TOPIC = {"KAFKA": "Kafka has no newest message of a topic; use POSTGRES, SQLITE or MEMORY"}
RetainedStore = Annotated[
    StoreType,
    *choice(StoreType.MEMORY, StoreType.HAZELCAST, *_RDBMS, instead=_NOT_BY_TOPIC),
]
LastValueStore = Annotated[
    StoreType,
    *choice(StoreType.NONE, StoreType.MEMORY, StoreType.HAZELCAST, *_RDBMS, instead=_NOT_BY_TOPIC),
]
ArchiveStoreType = Annotated[StoreType, *choice(StoreType.NONE, StoreType.KAFKA, *_RDBMS)]
Policy = Annotated[QueuePolicy, *choice(*QueuePolicy)]
Kind = Annotated[ProjectorKind, *choice(*ProjectorKind)]
Format = Annotated[LogFormat, *choice(*LogFormat)]
PayloadForm = Annotated[PayloadFormat, *choice(*PayloadFormat)]
Compressed = Annotated[Compression, *choice(*Compression)]


def _check_setting(value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError("must be text, a number, true or false")


Setting = Annotated[bool | int | float | str, BeforeValidator(_check_setting)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]


def check_file_name(value: str) -> str:
    """Return what can be the name of a file.

    Raises:
        ValueError: No file can have it; the message follows the key, or the argument.
    """
    if "\0" in value:
        raise ValueError("contains a NUL character, which no file name has; remove it")
    return value


FileName = Annotated[Text, AfterValidator(check_file_name)]
Port = Annotated[int, Field(strict=True, ge=0, le=65_535)]


def matching(pattern: str, problem: str) -> tuple[Strict, AfterValidator, WithJsonSchema]:
    """Make the annotations of a text that matches ``pattern``; ``problem`` is the error."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(problem)
        return value

    return Strict(), AfterValidator(check), WithJsonSchema({"type": "string", "pattern": pattern})


Address = Annotated[
    str,
    *matching(
        "^[0-9A-Za-z_.:%-]{1,255}$",
        "must be an IP address or host name such as 127.0.0.1, 0.0.0.0 or ::",
    ),
]


def _check_origin(value: str) -> str:
    """Return the origin in the one spelling that is compared, or ``*``."""
    if value == ANY_ORIGIN:
        return value
    if value.casefold() == OPAQUE_ORIGIN:
        raise ValueError('cannot be "null", which every page can make its own; "*" admits any page')
    try:
        return str(parse_origin(value))
    except ValueError as exc:
        raise ValueError(f'{value[:60]!r} {exc}; or "*" for any page') from exc


WebOrigin = Annotated[
    str,
    Strict(),
    AfterValidator(_check_origin),
    WithJsonSchema({"type": "string", "pattern": r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+)$"}),
]

# java.util.logging's names with its numbers, and the level of Python's logging each becomes.
_LEVELS = {
    "ALL": (-(2**31), 1),
    "FINEST": (300, 5),
    "FINER": (400, 8),
    "FINE": (500, logging.DEBUG),
    "CONFIG": (700, 15),
    "INFO": (800, logging.INFO),
    "WARNING": (900, logging.WARNING),
    "SEVERE": (1000, logging.ERROR),
    "OFF": (2**31 - 1, logging.CRITICAL + 10),
}
LOG_LEVEL_NAMES = tuple(_LEVELS)

# The names other programs have for the same.
_LEVEL_ALIASES = {
    "DEBUG": logging.DEBUG,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}


def parse_log_level(value: object) -> int:
    """Return the level of Python's ``logging`` for one of the original's names or numbers.

    Numbers are java.util.logging's, where 800 is INFO; one between two names means the higher.
    DEBUG, WARN, ERROR and CRITICAL are understood too.

    Raises:
        ValueError: It is neither; the message lists the names.
    """
    if value is False:  # YAML reads an unquoted OFF so
        value = "OFF"
    text = str(value).strip().upper()
    if text in _LEVELS:
        return _LEVELS[text][1]
    if text in _LEVEL_ALIASES:
        return _LEVEL_ALIASES[text]
    if isinstance(value, bool) or re.fullmatch(r"[+-]?[0-9]{1,10}", text) is None:
        raise ValueError(
            f"must be a number or one of {', '.join(_LEVELS)}, not {str(value)[:40]!r}"
        )
    for number, level in _LEVELS.values():
        if int(text) <= number:
            return level
    return _LEVELS["OFF"][1]


def format_log_level(level: int) -> str:
    """Return the original's name of a level of Python's ``logging``."""
    return next((name for name, (_, known) in _LEVELS.items() if level <= known), "OFF")


_LEVEL_SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "enum": [*_LEVELS, *_LEVEL_ALIASES]},
        {"type": "integer"},
        {"const": False, "description": "An unquoted OFF, as YAML reads it."},
    ]
}
LogLevel = Annotated[int, BeforeValidator(parse_log_level), WithJsonSchema(_LEVEL_SCHEMA)]
