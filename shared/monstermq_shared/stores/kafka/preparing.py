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

    async def make(self, topics: Sequence[GroupTopic]) -> Mapping[str, TopicFacts]:
        """Make topics that messages lead to; return those that Kafka lets us have.

        Raises:
            StartupError: Kafka cannot be reached, or nobody knows what it did.
        """
        names = [topic.name for topic in topics]
        async with Admin.opened(self._settings, ExitCode.STORE_UNREACHABLE) as admin:
            facts = dict(await admin.topics(names))
            missing = [topic for topic in topics if topic.name not in facts]
            made = await self._create(admin, missing) if missing else []
            if made:
                facts |= await admin.topics(made, made=made)
        for name in made:
            logger.info("made the Kafka topic %s", name)
        for topic in topics:
            if topic.name in facts:
                self._warn(topic, facts[topic.name])
                self._topics.append(topic)
        return facts

    async def _create(self, admin: Admin, topics: Sequence[GroupTopic]) -> list[str]:
        """Make topics in one go, or one by one if Kafka refuses any; return what was made."""
        try:
            await admin.create([topic.spec(self._settings) for topic in topics])
        except StartupError as exc:
            if not isinstance(exc.__cause__, _REFUSALS):
                raise
            if len(topics) > 1:
                return [name for topic in topics for name in await self._create(admin, [topic])]
            logger.warning("%s: its messages go to the group's own topic", exc)
            return []
        return [topic.name for topic in topics]

    def _warn(self, topic: GroupTopic, found: TopicFacts) -> None:
        """Tell what a topic loses or refuses, once."""
        for warning in topic.warnings(found):
            line = f"the Kafka topic {topic.name}: {warning}"
            if line not in self._told:
                self._told.add(line)
                logger.warning("%s", line)
