"""``monstermq db skip-gap``: lets the sessions go on where facts are missing (P7)."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TextIO

from monstermq.invocations import SkipGap
from monstermq.reaching import check_on_kafka, reached_database
from monstermq_shared.bus.control import control_texts
from monstermq_shared.bus.facts import Detach
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import BusError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.positions import Partition
from monstermq_shared.records import SESSION_TOPIC, ControlRecord
from monstermq_shared.stores.changes import Commit, LogState, StoredLogState
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.views.catalogue import SESSIONS

APPEND_S = 30.0
"""How long Kafka may take to have a record."""

REASON = "gap"
"""Why clients are detached."""


def skip_gap(invocation: SkipGap, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Go on behind what retention has taken from the sessions log, and say what that means.

    Raises:
        ConfigError: The configuration is wrong, or has no bus on Kafka.
        StartupError, StoreError: Kafka or PostgreSQL cannot be used.
    """
    config = load_config(invocation.config, environ).config
    check_on_kafka(config)
    settings = KafkaSettings.from_config(config)

    async def skip() -> int:
        async with reached_database(config) as database:
            bus = await open_kafka_bus(settings)
            try:
                return await _skip(bus, database, output)
            finally:
                await bus.close()

    skipped = asyncio.run(skip())
    output.write(
        "start the projectors of the sessions again\n"
        if skipped
        else "nothing is missing in the sessions log, and nothing was changed\n"
    )
    return ExitCode.OK


async def _skip(bus: KafkaBus, database: PostgresDatabase, output: TextIO) -> int:
    """Return how many partitions had a gap."""
    await database.belong_to(bus.generation)
    skipped = 0
    for number, first in sorted((await bus.sessions.first_positions()).items()):
        partition = Partition(bus.generation + SESSIONS_SUFFIX, number)
        state = (await database.log_states(partition)).get(SESSIONS)
        if state is None or state.mark.reflected >= first:
            continue
        skipped += 1
        count = await _skip_partition(bus, database, partition, state, first)
        output.write(
            f"partition {number} of the sessions log: goes on at {first}; the facts from "
            f"{state.mark.reflected} to {first - 1} are missing; {count} clients are disconnected\n"
        )
    return skipped


async def _skip_partition(
    bus: KafkaBus,
    database: PostgresDatabase,
    partition: Partition,
    state: StoredLogState,
    first: int,
) -> int:
    """Return how many clients are detached: nobody knows what was said of them meanwhile."""
    tenure = await database.begin(partition, [SESSIONS])
    detaches: list[Detach] = []
    async with database.sessions.load(partition) as snapshot:
        async for page in snapshot.pages():
            for stored in page:
                row = stored.row
                if row.connected and row.epoch is not None:
                    detaches.append(
                        Detach(client_id=row.client_id, epoch=row.epoch, will=True, reason=REASON)
                    )
    # Before the mark: whoever is ended in between does it again, and each counts once.
    await _append(bus, partition.number, detaches)
    log = LogState(log_id=bus.generation, last_id=None, runs=state.runs)
    await database.commit(tenure, Commit(upto=first, log=log))
    return len(detaches)


async def _append(bus: KafkaBus, partition: int, detaches: Sequence[Detach]) -> None:
    run = os.urandom(RUN_SIZE)
    now_ms = SystemClock().wall_ms()
    try:
        for sequence, (kind, text) in enumerate(control_texts(detaches)):
            record = ControlRecord(SESSION_TOPIC, text, now_ms, 0, kind)
            async with asyncio.timeout(APPEND_S):
                await bus.sessions.append(partition, [record], Stamp(run, sequence))
    except (BusError, TimeoutError) as exc:
        raise StartupError(
            f"Kafka.Servers: clients of partition {partition} of the sessions log could not be "
            f"detached: {str(exc) or 'no answer'}; do it again",
            exit_code=ExitCode.BUS_UNREACHABLE,
        ) from exc
