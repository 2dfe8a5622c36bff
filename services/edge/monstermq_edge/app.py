"""The edge as a process: event loop, signals, exit status."""

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version

from monstermq_edge.broker import Broker
from monstermq_edge.companion import Companions, none
from monstermq_shared.config import BrokerConfig, LoadedConfig, check_runnable
from monstermq_shared.errors import MonsterError
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.process import exit_status, run_process, run_service
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.supervised import Supervised

logger = logging.getLogger(__name__)


def run_broker(
    loaded: LoadedConfig,
    log_level: int,
    signals: Signals,
    supervised: Supervised | None = None,
    companions: Companions = none,
) -> int:
    """Run a broker until it is told to stop; return the exit status.

    SIGTERM and SIGINT stop it gracefully, a second one at once. SIGHUP reads certificates again.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
        signals: Who takes them, started.
        supervised: What a supervisor says, if one has started it.
        companions: Makes what runs beside the broker.
    """
    name = "" if supervised is None else supervised.name
    configure_logging(log_level, loaded.config.log.format, name)
    tell = supervised is None  # else the supervisor has told all this
    if tell:
        logger.info("MonsterMQ %s, configuration: %s", told_version(), loaded.source)
        _warn(loaded.warnings)
    try:
        more = check_runnable(loaded)
        if tell:
            _warn(more)
            _warn(_left_out(loaded.config, companions))
    except MonsterError as exc:
        logger.critical("%s", exc)
        return exit_status(exc)
    return run_process(
        loaded, partial(_run, loaded, signals, supervised, companions), has_clients=True
    )


def _left_out(config: BrokerConfig, companions: Companions) -> Iterator[str]:
    """Yield what the configuration asks for, and another command does."""
    if config.mcp.runs and companions is none and not config.kafka.bus.enabled:
        yield "MCP.Enabled: monstermq-edge runs no MCP server; start monstermq instead"


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning("%s", warning)


async def _run(
    loaded: LoadedConfig,
    signals: Signals,
    supervised: Supervised | None,
    companions: Companions,
) -> int:
    listeners = () if supervised is None else (supervised.listener(),)
    broker = Broker(
        loaded.config,
        version("monstermq"),
        operation_listeners=listeners,
        companions=companions,
    )
    stopping = asyncio.Event()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    signals.listen(
        partial(soon, stopping.set),
        partial(soon, broker.reload),
        # Where there is nothing to reload, the terminal has been closed.
        hang_up_stops=os.isatty(0) and not broker.reloads,
    )
    tell = partial(_say_where, broker, loaded)
    return await run_service(broker, broker.start(), stopping, signals, tell, logger)


def _say_where(broker: Broker, loaded: LoadedConfig) -> None:
    for url in broker.urls():
        logger.info("listening on %s", url)
    _say_what_next(loaded)


def _say_what_next(loaded: LoadedConfig) -> None:
    port = loaded.config.tcp
    if port:
        logger.info("try: mosquitto_sub -p %d -t '#' -v", port)
        logger.info("and: mosquitto_pub -p %d -t hello -m world -r", port)
