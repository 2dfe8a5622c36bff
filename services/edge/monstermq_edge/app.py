"""The edge as a process: event loop, signals, exit status."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from importlib.metadata import version
from typing import Any

import uvloop

from monstermq_edge.broker import Broker
from monstermq_edge.operation.files import raise_file_limit
from monstermq_edge.operation.logging import configure_logging
from monstermq_edge.operation.notify import READY, STOPPING, notify
from monstermq_shared.config import LoadedConfig, check_runnable
from monstermq_shared.errors import (
    ConfigError,
    MonsterError,
    StartupError,
    StoreConflict,
    StoreDamaged,
)
from monstermq_shared.exit_codes import ExitCode

logger = logging.getLogger(__name__)

GC_THRESHOLDS = (50_000, 20, 1_000)
"""Few collections: the hot path makes no cycles, and a full one stops the broker for a moment."""


SAME_SIGNAL_S = 0.2
"""Signals that come so close together count as one: ``make`` and its shell both pass one on."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that waits for the interpreter lets another run. The loop gives the interpreter
away in every turn, and takes it back before the default of 5 ms has passed: the writer's thread
would wait for seconds on a busy machine."""


def run_broker(loaded: LoadedConfig, log_level: int) -> int:
    """Run a broker until it is told to stop; return the exit status.

    SIGTERM and SIGINT stop it gracefully, a second one at once. SIGHUP reads certificates again.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
    """
    configure_logging(log_level, loaded.config.log.format)
    logger.info("MonsterMQ %s, configuration: %s", version("monstermq"), loaded.source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    soft, hard = raise_file_limit()
    if soft < loaded.config.limits.connections:
        logger.info("the process may open %d files (hard limit %d)", soft, hard)
    try:
        for warning in check_runnable(loaded):
            logger.warning("%s", warning)
        return uvloop.run(_run(loaded))
    except MonsterError as exc:
        logger.critical("%s", exc)
        return exit_status(exc)


def exit_status(exc: MonsterError) -> int:
    """Return the exit status for an error that ends the process."""
    match exc:
        case StartupError():
            return exc.exit_code
        case ConfigError():
            return ExitCode.CONFIG
        case StoreDamaged():
            return ExitCode.STORE_DAMAGED
        case StoreConflict():
            return ExitCode.STORE_IN_USE
        case _:
            return ExitCode.FAILURE


async def _run(loaded: LoadedConfig) -> int:
    broker = Broker(loaded.config, version("monstermq"))
    signals = _Signals()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.stop)
    await broker.start()
    loop.add_signal_handler(signal.SIGHUP, signals.hang_up, broker)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for url in broker.urls():
        logger.info("listening on %s", url)
    _say_what_next(loaded)
    notify(READY)
    stopped = asyncio.create_task(signals.stopping.wait())
    ends: list[asyncio.Future[Any]] = [stopped, broker.failed]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    notify(STOPPING)
    if broker.failed.done():
        stopped.cancel()
        error = broker.failed.result()
        logger.critical("%s", error)
        await broker.stop()
        return exit_status(error)
    logger.info("stopping; a second signal ends at once")
    await broker.stop()
    logger.info("stopped")
    return ExitCode.OK


class _Signals:
    """Turns signals into a stop, and a second one into the end."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._first_s = 0.0
        self._interactive = os.isatty(0)

    def stop(self) -> None:
        """SIGTERM, SIGINT: stop; again: end at once."""
        now_s = time.monotonic()
        if not self.stopping.is_set():
            self._first_s = now_s
            self.stopping.set()
        elif now_s - self._first_s > SAME_SIGNAL_S:
            logger.critical("ended at once by a second signal")
            # The log is the truth: what was acknowledged is committed, whatever happens now.
            os._exit(ExitCode.FAILURE)

    def hang_up(self, broker: Broker) -> None:
        """SIGHUP: reload; where there is nothing to reload, the terminal has been closed."""
        if broker.reloads or not self._interactive:
            broker.reload()
        else:
            self.stop()


def _say_what_next(loaded: LoadedConfig) -> None:
    port = loaded.config.tcp
    if port:
        logger.info("try: mosquitto_sub -p %d -t '#' -v", port)
        logger.info("and: mosquitto_pub -p %d -t hello -m world -r", port)
