"""The topics of all archives: those that are not there are made, the others looked at."""

import logging
from collections.abc import Mapping, Sequence

from aiokafka.errors import InvalidTopicError, PolicyViolationError

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin, TopicFacts
from monstermq_shared.kafka.errors import RIGHTS_ERRORS
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.stores.kafka.topics import GroupTopic

logger = logging.getLogger(__name__)

_REFUSALS = (*RIGHTS_ERRORS, InvalidTopicError, PolicyViolationError)


class Topics:
    """The topics of all archives.

    Attributes:
        where: The servers, as messages name them; known once they were asked.

    Args:
        settings: Of the cluster.
        topics: One for each archive.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[GroupTopic]) -> None:
        self.where = ""
        self._settings = settings
        self._topics = [*topics]
        self._told: set[str] = set()

    async def prepare(self) -> Mapping[str, TopicFacts]:
        """Make what is missing; return what there is, by the topic's name.

        Raises:
            StartupError: Kafka cannot be reached, does not let us in, or a topic cannot be made.
        """
        async with Admin.opened(self._settings, ExitCode.STORE_UNREACHABLE) as admin:
            self.where = admin.where
            names = {topic.name for topic in self._topics}
            facts = await admin.topics(names)
            missing = {topic.name: topic for topic in self._topics if topic.name not in facts}
            made = [*missing]
            if missing:
                await admin.create([topic.spec(self._settings) for topic in missing.values()])
                facts = await admin.topics(names, made=made)
        for name in made:
            logger.info("made the Kafka topic %s", name)
        for topic in self._topics:
            if topic.name not in facts:
                raise StartupError(
                    f"Kafka at {self.where}: we may not see the topic {topic.name}: give "
                    "Kafka.Security.User the right to describe and to write it",
                    exit_code=ExitCode.STORE_UNREACHABLE,
                )
            self._warn(topic, facts[topic.name])
        return facts

    async def make(self, topic: GroupTopic) -> TopicFacts | None:
        """Make a topic that messages lead to; return None if Kafka will not have it.

        Raises:
            StartupError: Kafka cannot be reached, or nobody knows what it did.
        """
        async with Admin.opened(self._settings, ExitCode.STORE_UNREACHABLE) as admin:
            facts = await admin.topics([topic.name])
            if topic.name not in facts:
                try:
                    await admin.create([topic.spec(self._settings)])
                except StartupError as exc:
                    if not isinstance(exc.__cause__, _REFUSALS):
                        raise
                    logger.warning("%s: its messages go to the group's own topic", exc)
                    return None
                facts = await admin.topics([topic.name], made=[topic.name])
                logger.info("made the Kafka topic %s", topic.name)
        self._warn(topic, facts[topic.name])
        self._topics.append(topic)
        return facts[topic.name]

    def _warn(self, topic: GroupTopic, found: TopicFacts) -> None:
        """Tell what a topic loses or refuses, once."""
        for warning in topic.warnings(found):
            line = f"the Kafka topic {topic.name}: {warning}"
            if line not in self._told:
                self._told.add(line)
                logger.warning("%s", line)
