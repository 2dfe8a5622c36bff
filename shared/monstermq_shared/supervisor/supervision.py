"""Several processes as one: started in order, one /ready, one stop."""

import asyncio
import logging
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.health import Readiness
from monstermq_shared.supervisor.child import Child, Program

logger = logging.getLogger(__name__)

START_S = 20.0
"""How long a process is waited for before the next one is started all the same: one that waits
for its database must not keep the others from saying so."""


class Supervision:
    """Looks after processes.

    Attributes:
        ended: Done, with an exit code, once one of them cannot be started at all.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._children = [Child(program) for program in programs]
        self._running: list[tuple[Child, asyncio.Task[int]]] = []
        self._readiness = Readiness(["the processes are being started"])
        self._families: list[Metric] = []

    async def start(self) -> None:
        """Start them one after the other, each once the one before is ready."""
        for child in self._children:
            task = asyncio.create_task(child.run(), name=child.program.name)
            task.add_done_callback(self._child_ended)
            self._running.append((child, task))
            ready = asyncio.create_task(child.was_ready.wait())
            ends: list[asyncio.Future[Any]] = [ready, self.ended]
            try:
                await asyncio.wait(ends, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
            if self.ended.done():
                return

    def _child_ended(self, task: asyncio.Task[int]) -> None:
        code = ExitCode.FAILURE
        if not task.cancelled():
            error = task.exception()
            if error is None:
                code = ExitCode(task.result()) if task.result() in set(ExitCode) else code
            else:
                logger.critical("the supervision of %s failed", task.get_name(), exc_info=error)
        if not self.ended.done():
            self.ended.set_result(code)

    def reload(self) -> None:
        """Pass SIGHUP on."""
        for child in self._children:
            child.signal(signal.SIGHUP)

    async def refresh(self) -> None:
        """Ask all of them, for ``readiness`` and ``collect``."""
        children = self._children
        readiness = await asyncio.gather(*(child.readiness() for child in children))
        metrics = await asyncio.gather(*(child.ask("/metrics") for child in children))
        names = [child.program.name for child in children]
        told = [*zip(names, readiness, strict=True)]
        self._readiness = Readiness(
            [f"{name}: {reason}" for name, of_one in told for reason in of_one.reasons],
            [f"{name}: {warning}" for name, of_one in told for warning in of_one.warnings],
        )
        texts = [answer.body.decode(errors="replace") for answer in metrics]
        self._families = _merged(zip(names, texts, strict=True))

    def readiness(self) -> Readiness:
        """Return why not everything is ready, and warnings, as of the last ``refresh``."""
        return self._readiness

    def families(self) -> Iterable[Metric]:
        """Return the metrics of all processes, each with a label that names it."""
        return self._families

    def starts(self) -> list[tuple[str, int]]:
        """Return how often each process was started."""
        return [(child.program.name, child.starts) for child in self._children]

    async def stop(self) -> None:
        """Stop them in the opposite order."""
        for child, task in reversed(self._running):
            await child.stop(task)
        for child in self._children:
            child.close()


class SupervisionCollector(Collector):
    """The metrics of all processes, and of the supervision itself."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering asks nobody."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield what the last ``refresh`` has found."""
        starts = Metric("monstermq_process_starts", "Times a process was started.", "counter")
        for name, count in self._supervision.starts():
            starts.add_sample("monstermq_process_starts_total", {"process": name}, count)
        yield starts
        yield from self._supervision.families()


def _merged(expositions: Iterable[tuple[str, str]]) -> list[Metric]:
    families: dict[str, Metric] = {}
    for process, text in expositions:
        with suppress(ValueError):
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "process": process}
                    merged.add_sample(sample.name, labels, sample.value)
    return list(families.values())
