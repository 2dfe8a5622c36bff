"""``monstermq quarantine retry`` and ``discard``: take out what stands in the log for no record."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import TextIO

from monstermq.invocations import MendQuarantine
from monstermq.quarantine import entry_at, matched, position_of
from monstermq.reaching import check_on_kafka, reached_database
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.errors import BusError, InvalidRecord, InvalidTopic, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import ControlRecord, Record, StampedRecord, decode_record
from monstermq_shared.stores.ports import QuarantineEntry
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.quarantine import ROWS_MAX
from monstermq_shared.topics import TOPIC_SIZE_MAX, check_topic_name

ENTRIES_MAX = 100 * ROWS_MAX
"""Entries that one command takes out."""


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
    return run_tool(_mend(invocation, config, Terminal(output)))


async def _mend(invocation: MendQuarantine, config: BrokerConfig, terminal: Terminal) -> ExitCode:
    async with reached_database(config) as database:
        if not invocation.retry:
            return await _discard(invocation.position, database, terminal)
        bus = await open_kafka_bus(KafkaSettings.from_config(config))
        try:
            return await _retry(invocation.position, database, bus, terminal)
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
    position: str | None, database: PostgresDatabase, bus: KafkaBus, terminal: Terminal
) -> ExitCode:
    owner, sent, kept = await database.owner(), 0, 0
    async for entry in _entries(position, database):
        try:
            record = _read_again(entry)
        except (InvalidRecord, InvalidTopic) as exc:
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
    for listed in await database.quarantined(limit=ENTRIES_MAX):
        entry = await database.quarantined_at(listed.partition, listed.record.offset)
        if entry is not None:  # another one may have taken it out
            yield entry


def _read_again(entry: QuarantineEntry) -> Record:
    """Return the message that it is, of now: Kafka takes nothing older.

    Raises:
        InvalidRecord, InvalidTopic: It is none.
    """
    quarantined = entry.record
    if len(quarantined.key) + len(quarantined.value) < quarantined.size:
        raise InvalidRecord("only its beginning was kept")
    read = decode_record(quarantined.value, offset=quarantined.offset)
    if isinstance(read, ControlRecord | StampedRecord):
        raise InvalidRecord("it is a note of the broker's processes, and no message of a client")
    check_topic_name(read.topic, levels_max=TOPIC_SIZE_MAX)
    if read.topic.startswith("$"):
        raise InvalidTopic("topics that begin with $ are the broker's own")
    return Record(
        read.topic,
        read.payload,
        read.qos,
        read.retained,
        read.client_id,
        SystemClock().wall_ms(),
        0,
    )


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
