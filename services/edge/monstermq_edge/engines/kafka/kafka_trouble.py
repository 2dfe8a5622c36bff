"""Whether Kafka takes what the edge writes: told for ``/ready``, and in the log when it changes."""

import asyncio
from collections.abc import Sequence

from monstermq_shared.bus.kafka.log import NO_ANSWER, KafkaLog
from monstermq_shared.stores.outages import Outage

STALLED_S = 5.0
"""A batch that waits for so long is a reason for clients to go elsewhere."""

LOOK_S = 1.0


class KafkaTrouble:
    """What Kafka does not take of both logs.

    A producer says what a server answers. That nobody answers it does not say: a client library
    connects again for ever, and publishers are held meanwhile.

    Args:
        logs: The logs that the edge writes.
        stalled_s: How long a batch may wait.
    """

    def __init__(self, logs: Sequence[KafkaLog], stalled_s: float = STALLED_S) -> None:
        self._logs = logs
        self._stalled_s = stalled_s
        self._outage = Outage("Kafka")

    @property
    def reasons(self) -> list[str]:
        """What is not taken and why, one sentence for each log and reason."""
        return [
            f"Kafka: {log.topic}, {_named(partitions)}: {why}"
            for log in self._logs
            for why, partitions in self._by_reason(log).items()
        ]

    async def watch(self) -> None:
        """Log once that Kafka does not answer, and once that it does again."""
        while True:
            for log in self._logs:
                what, reasons = f"writes to {log.topic}", self._by_reason(log)
                if not reasons:
                    self._outage.passed(what)
                elif NO_ANSWER in reasons:  # other reasons are told by the log
                    self._outage.late(what, NO_ANSWER)
            await asyncio.sleep(LOOK_S)

    def _by_reason(self, log: KafkaLog) -> dict[str, list[int]]:
        """Return why -> the partitions that wait."""
        found: dict[str, list[int]] = {}
        for partition, why in log.stalled(self._stalled_s).items():
            found.setdefault(why, []).append(partition)
        return found


def _named(partitions: Sequence[int]) -> str:
    if len(partitions) == 1:
        return f"partition {partitions[0]}"
    return f"{len(partitions)} partitions"
