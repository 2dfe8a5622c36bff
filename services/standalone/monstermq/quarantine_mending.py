"""``monstermq quarantine retry`` and ``discard``: take out what stands in the log for no record."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import TextIO

from monstermq.invocations import MendQuarantine
from monstermq.quarantine import entry_at, matched, position_of
from monstermq.reaching import check_on_kafka, reached_database
from monstermq.terminal import Terminal, run_tool
from monstermq_edge.ingress.messages import Reading, Source
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig, KafkaIngress, load_config
from monstermq_shared.errors import BusError, InvalidRecord, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import QuarantineEntry
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.log_states import of_another_log
from monstermq_shared.stores.quarantine import ROWS_MAX

ENTRIES_MAX = 100 * ROWS_MAX
"""Entries that one command takes out."""


class _ReadAgain:
    """Reads what is in quarantine as it would be read if it came now.

    Args:
        config: With the Kafka topics of others, each of which may have a form of its own.
        generation: Of the log.
    """

    def __init__(self, config: BrokerConfig, generation: str) -> None:
        limits = PublisherLimits.from_config(config)
        bus = KafkaIngress(topic=config.kafka.bus.topic)
        self._topics = {
            each.topic: Reading(each, generation, limits) for each in (bus, *config.kafka.ingress)
        }
        self._bus = self._topics[bus.topic]

    def record(self, entry: QuarantineEntry) -> Record:
        """Return the message that it is, of now: Kafka takes nothing older.

        Raises:
            InvalidRecord: It is none.
        """
        found = entry.record
        if len(found.key) + len(found.value) < found.size:
            raise InvalidRecord("only its beginning was kept")
        number = entry.partition.number
        source = Source(
            number, found.offset, found.time_ms, found.key, found.value, list(found.headers)
        )
        topic = entry.partition.generation.rpartition(":")[2]
        incoming = self._topics.get(topic, self._bus).message_of(source)
        if incoming is None:
            raise InvalidRecord("it is a note of the broker's processes, and no client's message")
        message = incoming.publication
        return Record(
            message.topic,
            message.payload,
            message.qos,
            message.retained,
            incoming.client_id,
            SystemClock().wall_ms(),
            0,
        )


def mend_quarantine(
    invocation: MendQuarantine, environ: Mapping[str, str], output: TextIO
) -> ExitCode:
    """Append what can be read now, or forget it; what cannot be read stays, with exit code 1.

    Raises:
        ConfigError: The configuration or the position is wrong.
        StartupError, StoreError: Kafka or PostgreSQL cannot be used, or nothing is there.
    """
    config = load_config(invocation.config, environ).config
    if invocation.retry:
        check_on_kafka(config)
    if invocation.position is not None:
        matched(invocation.position)
    return run_tool(_mend(invocation, config, Terminal(output, as_json=invocation.as_json)))


async def _mend(invocation: MendQuarantine, config: BrokerConfig, terminal: Terminal) -> ExitCode:
    async with reached_database(config) as database:
        if not invocation.retry:
            return await _discard(invocation.position, database, terminal)
        bus = await open_kafka_bus(KafkaSettings.from_config(config))
        try:
            owner = await database.owner()
            if owner is not None and owner != bus.generation:
                raise of_another_log(database.where, owner, bus.generation)
            reading = _ReadAgain(config, bus.generation)
            return await _retry(invocation.position, database, bus, reading, terminal)
        finally:
            await bus.close()


async def _discard(
    position: str | None, database: PostgresDatabase, terminal: Terminal
) -> ExitCode:
    count = 0
    async for entry in _entries(position, database):
        count += await database.discard_quarantined(entry.partition, entry.record.offset)
    terminal.tell(f"{count} discarded", {"discarded": count})
    return ExitCode.OK


async def _retry(
    position: str | None,
    database: PostgresDatabase,
    bus: KafkaBus,
    reading: _ReadAgain,
    terminal: Terminal,
) -> ExitCode:
    owner, sent, kept = await database.owner(), 0, 0
    async for entry in _entries(position, database):
        try:
            record = reading.record(entry)
        except InvalidRecord as exc:
            terminal.note(f"{position_of(entry, owner)} stays: {exc}")
            kept += 1
            continue
        await _append(bus, entry, record)
        # Behind it: whoever is stopped in between appends it again, and it counts once.
        await database.discard_quarantined(entry.partition, entry.record.offset)
        sent += 1
    terminal.tell(
        f"{sent} appended to the log, {kept} still in quarantine", {"appended": sent, "kept": kept}
    )
    return ExitCode.FAILURE if kept else ExitCode.OK


async def _entries(
    position: str | None, database: PostgresDatabase
) -> AsyncIterator[QuarantineEntry]:
    if position is not None:
        yield await entry_at(database, matched(position))
        return
    found = await database.quarantined(limit=ENTRIES_MAX)
    # As they stood: of two messages to one topic the later one is what is retained in the end.
    for listed in sorted(found, key=lambda at: (at.partition, at.record.offset)):
        entry = await database.quarantined_at(listed.partition, listed.record.offset)
        if entry is not None:  # another one may have taken it out
            yield entry


async def _append(bus: KafkaBus, entry: QuarantineEntry, record: Record) -> None:
    log = bus.messages
    source = f"quarantine:{entry.partition}:{entry.record.offset}".encode()
    # A run of its own for each, always the same: what is appended twice counts once (R1).
    run = hashlib.sha256(source).digest()[:RUN_SIZE]
    try:
        await log.append(log.partition_of(record.topic), [record], Stamp(run, 0))
    except BusError as exc:
        raise StartupError(
            f"{entry.record.offset} could not be appended, and stays: {exc}",
            exit_code=ExitCode.BUS_UNREACHABLE,
        ) from exc
