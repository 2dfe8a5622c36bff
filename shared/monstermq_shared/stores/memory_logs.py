"""What a database in memory knows of logs: marks, what is kept with them, and what is no record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import Commit, LogState, Quarantined, StoredLogState
from monstermq_shared.stores.ports import QuarantineEntry
from monstermq_shared.stores.quarantine import newest


class MemoryLogs:
    """The part of ``MemoryDatabase`` that is about logs."""

    def __init__(self) -> None:
        self._marks: dict[tuple[Partition, str], Mark] = {}
        self._logs: dict[tuple[Partition, str], LogState] = {}
        self._fences: dict[tuple[Partition, str], dict[str, tuple[int, int]]] = {}
        self._quarantined: dict[Partition, dict[int, Quarantined]] = {}
        self._dropped = 0
        self._owner: str | None = None
        # The version and token of the tenure of each.
        self._holders: dict[tuple[Partition, str], tuple[int, str]] = {}

    def marks(self, partition: Partition) -> dict[str, Mark]:
        """Return where the projections stand that have committed in a partition."""
        return {name: mark for (at, name), mark in self._marks.items() if at == partition}

    def move(self, key: tuple[Partition, str], commit: Commit) -> None:
        """Move a mark, and what is kept of the log with it."""
        restart = commit.upto if commit.restart is None else commit.restart
        before = self._marks.get(key, Mark(0, 0))
        self._marks[key] = Mark(max(before.reflected, commit.upto), max(before.restart, restart))
        if commit.log is None:
            return
        if commit.upto >= before.reflected:
            self._logs[key] = commit.log
        fences = {**self._fences.get(key, {}), **commit.log.fences}
        oldest = commit.log.fences_from_ms
        self._fences[key] = {name: at for name, at in fences.items() if at[1] >= oldest}

    def quarantine(self, partition: Partition, records: Sequence[Quarantined]) -> None:
        """Keep what is no record; older ones make room."""
        before = self._quarantined.get(partition, {})
        found = {record.offset: record for record in records} | before
        kept = newest([found[offset] for offset in sorted(found)])
        self._quarantined[partition] = {record.offset: record for record in kept}
        self._dropped += len(found) - len(kept)

    async def begin_marks(self, log_id: str, starts: Mapping[Partition, Mapping[str, int]]) -> None:
        """Say where projections begin that have no mark yet; those that have one keep it."""
        for partition, offsets in starts.items():
            for name, offset in offsets.items():
                key = (partition, name)
                if key not in self._marks:
                    self._marks[key] = Mark(offset, offset)
                    self._logs[key] = LogState(log_id=log_id, last_id=None)

    async def log_states(
        self, partition: Partition, projections: Sequence[str] | None = None
    ) -> Mapping[str, StoredLogState]:
        """Return what is kept for each projection that has a mark there."""
        states: dict[str, StoredLogState] = {}
        for name, mark in self.marks(partition).items():
            if projections is not None and name not in projections:
                continue
            log = self._logs.get((partition, name))
            states[name] = StoredLogState(
                mark=mark,
                log_id=None if log is None else log.log_id,
                last_id=None if log is None else log.last_id,
                runs={} if log is None else {run: [*at] for run, at in log.runs.items()},
                fences=dict(self._fences.get((partition, name), {})),
                skips=() if log is None else tuple(log.skips),
            )
        return states

    async def positions(self, generation: str) -> Mapping[tuple[str, int], int]:
        """Return (projection, partition) -> the next offset its rows do not reflect."""
        return self.reflected(generation)

    async def versions(self, generation: str) -> Mapping[tuple[str, int], tuple[int, str]]:
        """Return (projection, partition) -> version and token of the tenure it has now."""
        return {
            (name, partition.number): holder
            for (partition, name), holder in self._holders.items()
            if partition.generation == generation
        }

    def reflected(self, generation: str) -> Mapping[tuple[str, int], int]:
        """Return what ``positions`` does."""
        return {
            (name, partition.number): mark.reflected
            for (partition, name), mark in self._marks.items()
            if partition.generation == generation
        }

    async def quarantined(self, *, limit: int) -> list[QuarantineEntry]:
        """Return the newest of all partitions, newest first, without their values."""
        found = [
            QuarantineEntry(partition, replace(record, value=b""))
            for partition, records in self._quarantined.items()
            for record in records.values()
        ]
        found.sort(key=lambda at: (at.record.time_ms, at.record.offset), reverse=True)
        return found[:limit]

    async def quarantined_at(self, partition: Partition, offset: int) -> QuarantineEntry | None:
        """Return one with its value, None if nothing is kept of that position."""
        record = self._quarantined.get(partition, {}).get(offset)
        return None if record is None else QuarantineEntry(partition, record)

    async def quarantine_counts(self) -> tuple[int, int]:
        """Return how many are kept, and how many were dropped to make room."""
        return sum(map(len, self._quarantined.values())), self._dropped

    async def belong_to(self, generation: str) -> None:
        """Take this log for the database's own if it has none.

        Raises:
            StartupError: It belongs to another.
        """
        if self._owner not in {None, generation}:
            raise self._of_another_log()
        self._owner = generation

    def check_owner(self, generation: str) -> None:
        """Refuse a log that the database does not belong to.

        Raises:
            StartupError: It has another.
        """
        owner = self._owner
        if owner is not None and generation not in {owner, owner + SESSIONS_SUFFIX}:
            raise self._of_another_log()

    def _of_another_log(self) -> StartupError:
        return StartupError(
            f"the rows are of the log {self._owner}; see monstermq db adopt",
            exit_code=ExitCode.STORE_OF_ANOTHER_LOG,
        )

    async def adopt(self, generation: str | None) -> str | None:
        """Make it another log's, or nobody's; return whose it was. Rows stay as they are."""
        owner, self._owner = self._owner, generation
        if owner != generation:
            self._holders.clear()
        return owner
