"""A command that is several processes: its own are started, watched, and answered for."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from monstermq_shared.counters import Counters
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.binding import url_host
from monstermq_shared.operation.health import OperationServer, Page, Place
from monstermq_shared.operation.metrics import registry_with
from monstermq_shared.operation.notify import READY, STOPPING, notify
from monstermq_shared.operation.process import start_or_stop
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.child import Program
from monstermq_shared.supervisor.supervision import Supervision, SupervisionCollector

logger = logging.getLogger(__name__)


async def serve(
    programs: Sequence[Program], place: Place | None, page: Page, signals: Signals
) -> int:
    """Run programs until the process is told to stop, or one of them cannot start.

    Args:
        programs: In order of their start.
        place: Where all of them are answered for; None: nowhere.
        page: What is at ``/`` there.
        signals: Who takes them, started.

    Returns:
        The exit status: that of the program that could not start, if there is one.

    Raises:
        StartupError: The port is taken.
    """
    supervision = Supervision(programs)
    stopping = asyncio.Event()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    signals.listen(
        partial(soon, stopping.set), partial(soon, supervision.reload), hang_up_stops=False
    )
    operation = None if place is None else _operation(supervision, place, page)
    stopped = asyncio.create_task(stopping.wait())
    try:
        if operation is not None:
            await operation.start()
            host = url_host(place.host) if place is not None else ""
            logger.info("listening on http://%s:%d/", host, operation.port)
        await _run(supervision, stopped, signals)
        notify(STOPPING)
    finally:
        stopped.cancel()
        await supervision.stop()
        if operation is not None:
            await operation.stop()
    if stopping.is_set():
        logger.info("stopped")
        return ExitCode.OK
    return supervision.ended.result()


async def _run(supervision: Supervision, stopped: asyncio.Task[Any], signals: Signals) -> None:
    """Return when it is to stop, or one of the programs could not start."""
    if not await start_or_stop(supervision.start(), stopped):
        return
    signals.started()
    if not supervision.ended.done():
        logger.info("all processes are started")
        notify(READY)
    ends: list[asyncio.Future[Any]] = [stopped, supervision.ended]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


def _operation(supervision: Supervision, place: Place, page: Page) -> OperationServer:
    return OperationServer(
        place,
        registry_with(SupervisionCollector(supervision)),
        supervision.readiness,
        page=page,
        counters=Counters(),
        refresh=supervision.refresh,
    )
