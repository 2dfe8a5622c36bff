"""Names that are made of other names: text with ``{placeholders}``, such as ``sensors.{2}``."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

TEMPLATE_SIZE_MAX = 1_000
"""Characters of a template."""

LEVELS_MAX = 1_000
"""The deepest level of a topic that a template can name."""

CLIENT_ID = "clientId"
TOPIC = "topic"
KEY = "key"
HEADER = "header:"
PARTITION = "partition"

_PARTS = re.compile(r"\{([^{}]*)\}")
_LEVEL = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders.

    Attributes:
        texts: What stands before, between and behind the placeholders: one more than of those.
        names: The placeholders, in order.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, written: str) -> "Template":
        """Read one.

        Raises:
            ValueError: A brace is alone; the message follows the key.
        """
        parts = _PARTS.split(written)
        texts, names = tuple(parts[::2]), tuple(parts[1::2])
        if any("{" in text or "}" in text for text in texts):
            raise ValueError("has a brace without its other one: placeholders are written {1}")
        return cls(texts, names)

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Return the text with a value for each placeholder."""
        found = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            found += (value_of(name), text)
        return "".join(found)


def level_of(name: str) -> int | None:
    """Return which level of a topic a placeholder means, counted from 0; None for any other."""
    return int(name) - 1 if _LEVEL.fullmatch(name) and int(name) <= LEVELS_MAX else None


def message_value(name: str, topic: str, client_id: str) -> str:
    """Return what a placeholder means for a message; a level that it does not have is empty."""
    level = level_of(name)
    if level is None:
        return topic if name == TOPIC else client_id
    levels = topic.split("/", level + 1)
    return levels[level] if level < len(levels) else ""


def _checked(
    parse: Callable[[str], Template], known: Callable[[str], bool], allowed: str
) -> Callable[[str], str]:
    def check(written: str) -> str:
        for name in parse(written).names:
            if not known(name):
                raise ValueError(f"has {{{name[:40]}}}; there are {allowed}")
        return written

    return check


def _text(check: Callable[[str], str]) -> tuple[object, ...]:
    schema = {"type": "string", "minLength": 1, "maxLength": TEMPLATE_SIZE_MAX}
    bounds = Field(strict=True, min_length=1, max_length=TEMPLATE_SIZE_MAX)
    return bounds, AfterValidator(check), WithJsonSchema(schema)


def _is_of_message(name: str) -> bool:
    return name in {TOPIC, CLIENT_ID} or level_of(name) is not None


_check_message = _checked(
    Template.parse,
    _is_of_message,
    "{1}, {2}, ... for the levels of the topic, {topic}, {clientId}",
)


def _check_topic(written: str) -> str:
    _check_message(written)
    if wrong := re.search(r"[^A-Za-z0-9._-]", "".join(Template.parse(written).texts)):
        raise ValueError(
            f"has {wrong[0]!r}, which no Kafka topic has: beside placeholders write letters, "
            "digits, '.', '_' and '-'"
        )
    return written


MessageTemplate = Annotated[str, *_text(_check_message)]
"""A name made of a message."""

TopicTemplate = Annotated[str, *_text(_check_topic)]
"""The name of a Kafka topic made of a message."""


def _is_of_kafka(name: str) -> bool:
    return name in {KEY, TOPIC, PARTITION} or (len(name) > len(HEADER) and name.startswith(HEADER))


def source_template(written: str) -> Template:
    """Read what makes an MQTT topic of a Kafka record: ``key``, ``header:NAME``, or a template.

    Raises:
        ValueError: It is none of them.
    """
    bare = written == KEY or (written.startswith(HEADER) and not {"{", "}"} & {*written})
    return Template.parse(f"{{{written}}}" if bare else written)


_check_source = _checked(
    source_template, _is_of_kafka, "{key}, {header:NAME}, {topic}, {partition}"
)

SourceTemplate = Annotated[str, *_text(_check_source)]
"""An MQTT topic made of a Kafka record."""
