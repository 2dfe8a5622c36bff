"""The retained message of every topic."""

from collections.abc import Sequence
from typing import Self

from monstermq_shared.records import Record
from monstermq_shared.stores.changes import MessageChanges
from monstermq_shared.topics import is_system_topic


class RetainedProjection:
    """Folds records with the retain flag: the last one of a topic stays [MQTT-3.3.1-5].

    An empty payload clears the topic and is not kept itself [MQTT-3.3.1-10, 3.3.1-11]. The
    broker's own topics, ``$SYS`` and below, are never retained.

    Args:
        name: What its watermark is stored under.
    """

    retained_only = True
    every_topic = True

    def __init__(self, name: str = "retained") -> None:
        self.name = name

    def named(self, name: str) -> Self:
        """See ``Projection``."""
        return type(self)(name)

    def wants(self, topic: str) -> bool:
        """Whether the topic can have a retained message."""
        return not is_system_topic(topic)

    def fold(self, records: Sequence[Record]) -> MessageChanges:
        """Return the last retained record of each topic, None where it clears."""
        return {
            record.topic: record if record.payload else None
            for record in records
            if record.retained and (record.topic[0] != "$" or not is_system_topic(record.topic))
        }
