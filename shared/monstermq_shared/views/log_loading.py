"""P1: where the views of a database go on in one partition of a log, and whether it is that log."""

import logging
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import StoredLogState, Tenure
from monstermq_shared.stores.ports import Database, KeepsLogState

logger = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """What a partition has.

    Attributes:
        first: The first offset that can be read.
        end: The offset that the next record gets.
    """

    first: int
    end: int


class LogSource(Protocol):
    """A log, as whoever follows it may ask it and direct the reading."""

    async def bounds(self, partition: int) -> Bounds:
        """Return what there is now.

        Raises:
            BusUnavailable: Nobody answers.
        """
        ...

    async def read_from(self, partition: int, offset: int) -> None:
        """Let what is delivered next begin at an offset.

        Raises:
            BusUnavailable: Nobody answers.
        """
        ...

    def hold(self, partition: int) -> None:
        """Deliver nothing more of a partition."""
        ...


class SharedDatabase(Database, KeepsLogState, Protocol):
    """A database that several processes commit to."""


class Loaded(NamedTuple):
    """Where a partition's projections stand.

    Attributes:
        tenure: The right to commit all of them; its ``marks`` say where each stands.
        lowest: What is kept with the lowest of the marks, from which on entries count.
    """

    tenure: Tenure
    lowest: StoredLogState

    @property
    def begin(self) -> int:
        """From where on entries count."""
        return self.lowest.mark.reflected


async def begin_views(
    database: SharedDatabase,
    log_id: str,
    partition: Partition,
    starts: Mapping[str, int],
) -> Loaded:
    """Begin a tenure, and what has no mark yet where it is to start.

    Args:
        database: Where the views are.
        log_id: Which log it is.
        partition: Of it.
        starts: Projection -> where it is to start: at the partition's end, or its first offset.

    Raises:
        StoreUnavailable: The database cannot be reached now.
        StartupError: The marks are of another log.
        StoreError: It refuses.
    """
    await database.begin_marks(log_id, {partition: starts})
    tenure = await database.begin(partition, [*starts])
    # From here on nobody else commits what they say.
    kept = await database.log_states(partition)
    states = {name: kept[name] for name in starts}
    refuse_other_log(log_id, partition, states)
    return Loaded(tenure, min(states.values(), key=_reflected))


def refuse_shorter_log(partition: Partition, bounds: Bounds, tenure: Tenure) -> None:
    """Refuse a log that ends below what the views reflect of it (P1).

    Raises:
        StartupError: It has been made again, or has lost records.
    """
    highest = max(mark.reflected for mark in tenure.marks.values())
    if bounds.end < highest:
        raise another_log(
            partition, f"it ends at {bounds.end}, and the views reflect it up to {highest}"
        )


def another_log(partition: Partition, why: str) -> StartupError:
    """Return the error for a log that is not the one the rows come from."""
    return StartupError(
        f"partition {partition.number} of {partition.generation} is not the log that the views "
        f"come from: {why}. The topic was deleted and made again, or has lost records. Give the "
        "bus another topic (Kafka.Bus.Topic) and the database to it (monstermq db adopt), or use "
        "another database",
        exit_code=ExitCode.STORE_OF_ANOTHER_LOG,
    )


def refuse_other_log(
    log_id: str, partition: Partition, states: Mapping[str, StoredLogState]
) -> None:
    """Refuse marks that are of another log than this one (P1).

    Raises:
        StartupError: They are.
    """
    for name, state in states.items():
        if state.log_id not in {None, log_id}:
            raise another_log(partition, f"{name} is of {state.log_id}")


def _reflected(state: StoredLogState) -> int:
    return state.mark.reflected
