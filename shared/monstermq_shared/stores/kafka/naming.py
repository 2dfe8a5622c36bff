"""Which Kafka topic a message of an archive group goes to, and under which key."""

import re
from collections.abc import Collection

from monstermq_shared.config.kafka import TOPIC_LENGTH_MAX, folded
from monstermq_shared.config.templates import CLIENT_ID, TOPIC, Template, message_value
from monstermq_shared.records import Record

_NOT_KAFKAS = re.compile(r"[^A-Za-z0-9._-]")


class TopicNames:
    """Makes the names of topics. Clients choose what they are made of, so nothing is trusted.

    A name that Kafka could not have, or that belongs to somebody else here, is the main topic's.

    Args:
        template: What ``KafkaTopic`` says.
        main: The topic for whatever has none of its own.
        reserved: Names, folded, that no message may lead to.
    """

    def __init__(self, template: Template, main: str, reserved: Collection[str]) -> None:
        self._template = template
        self._main = main
        self._reserved = reserved

    def name_of(self, record: Record) -> str:
        """Return the topic of a message."""
        name = self._template.fill(lambda placeholder: _value(placeholder, record))
        # Names that begin so are Kafka's own, such as the one of the groups' offsets.
        impossible = len(name) > TOPIC_LENGTH_MAX or name in {".", ".."} or name.startswith("__")
        return self._main if impossible or folded(name) in self._reserved else name


def _value(placeholder: str, record: Record) -> str:
    value = message_value(placeholder, record.topic, record.client_id)
    if placeholder == TOPIC:
        value = value.replace("/", ".")
    return _NOT_KAFKAS.sub("_", value) or "_"


def key_of(template: Template, record: Record) -> bytes:
    """Return the key of a message."""
    return template.fill(lambda name: message_value(name, record.topic, record.client_id)).encode()


def knows_clients(*templates: Template | None) -> bool:
    """Whether one of them asks who has published."""
    return any(CLIENT_ID in template.names for template in templates if template is not None)
