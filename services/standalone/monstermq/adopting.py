"""``monstermq db adopt``: gives a database to the log of a configuration."""

import asyncio
from collections.abc import Mapping
from typing import TextIO

from monstermq.invocations import Adopt
from monstermq.reaching import generation_of, reached_database
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.exit_codes import ExitCode

_STAYS = """\
Its rows stay. Histories go on behind what is there. Retained messages and last values are replaced
as their topics are published again, and until then are served as they are. Sessions and queues of
the log before are not served; they are there again if the database is given back to it.
"""


def adopt(invocation: Adopt, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Give the database to the configuration's log, and say what that means.

    Raises:
        ConfigError: The configuration is wrong, or has nothing in PostgreSQL.
        StartupError, StoreError: The database or Kafka cannot be used.
        StoreConflict: A broker on the internal bus runs on it.
    """
    config = load_config(invocation.config, environ).config
    return asyncio.run(_adopt(config, output))


async def _adopt(config: BrokerConfig, output: TextIO) -> ExitCode:
    async with reached_database(config, exclusive=True) as database:
        generation = await generation_of(config)
        before = await database.adopt(generation)
        where = f"PostgreSQL at {database.where}"
    if before == generation:
        owner = generation or "no log yet: the next start begins one"
        output.write(f"{where}: belongs to {owner}; nothing was changed\n")
        return ExitCode.OK
    after = generation or "nobody: the next start on the internal bus begins a new log"
    output.write(f"{where}: belonged to {before or 'no log'}, and now to {after}\n")
    output.write(_STAYS if before else "")
    return ExitCode.OK
