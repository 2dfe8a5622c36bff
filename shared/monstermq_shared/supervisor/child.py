"""One process that is kept running."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from monstermq_shared.exit_codes import FOR_A_PERSON, ExitCode
from monstermq_shared.operation.health import Readiness
from monstermq_shared.operation.notify import ADDRESS_VARIABLE
from monstermq_shared.supervisor.asking import Answer, ask
from monstermq_shared.supervisor.supervised import OPTION, Supervised

logger = logging.getLogger(__name__)

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a process is started again; the last one is repeated for ever."""

STEADY_S = 60.0
"""A process that ran so long is started again after the first pause."""

LOOK_S = 0.25
"""Between questions whether a process that was started is ready."""

STOP_S = 50.0
"""How long a process may take to stop; an edge with a database away takes 21."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is started.

    Attributes:
        name: How log and /ready name it.
        module: Python's, with a ``__main__``.
        arguments: Its command line.
    """

    name: str
    module: str
    arguments: Sequence[str]


class Child:
    """Starts a program, again when it ends, until it is stopped.

    Attributes:
        program: What is started.
        starts: How often it was.
        was_ready: Set once it has been ready.
        exit_code: Of the last end, None before; the negative number of a signal.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self.was_ready = asyncio.Event()
        self.exit_code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        # It stays the same over restarts, so that whoever asks meanwhile waits for the next one.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._port: int = self._listener.getsockname()[1]

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None

    async def run(self) -> int:
        """Keep it running until it is stopped; return its exit code.

        It is not started again if it ends before it was ready, or for a reason that waits for a
        person.
        """
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            self.exit_code = code = await self._run_once()
            if self._stopping.is_set():
                return code
            if not self.was_ready.is_set():
                logger.critical("%s ended before it was ready: %s", self.program.name, _told(code))
                return code if code > 0 else ExitCode.FAILURE
            if code in FOR_A_PERSON:
                logger.critical("%s ended: %s; all stop", self.program.name, _told(code))
                return code
            failures = 0 if loop.time() - began_s >= STEADY_S else failures + 1
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            logger.error(
                "%s ended: %s; it is started again in %g s",
                *(self.program.name, _told(code), pause_s),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                    return code

    async def _run_once(self) -> int:
        supervised = Supervised(self.program.name, self._listener.fileno())
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self.program.module, *self.program.arguments),
            *(f"--{OPTION}", str(supervised)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[supervised.descriptor],
            # The service manager hears of the start from the supervisor alone.
            env={name: value for name, value in os.environ.items() if name != ADDRESS_VARIABLE},
            # Ctrl-C at a terminal is for the supervisor, which stops the others in order.
            start_new_session=True,
        )
        self.starts += 1
        logger.info("%s is started, process %d", self.program.name, process.pid)
        # Whether or not anybody else asks: how its end is taken depends on it.
        looking = asyncio.create_task(self._look_until_ready())
        try:
            if self._stopping.is_set():
                self.signal(signal.SIGTERM)
            return await process.wait()
        finally:
            looking.cancel()
            if process.stdin is not None:
                process.stdin.close()
            self._process = None

    async def _look_until_ready(self) -> None:
        while not self.was_ready.is_set():
            await self.ask("/ready")
            await asyncio.sleep(LOOK_S)

    async def ask(self, path: str) -> Answer:
        """Ask its operation port."""
        answer = await ask(self._port, path) if self.is_running else Answer(0, b"")
        if path == "/ready" and answer.status == 200:
            self.was_ready.set()
        return answer

    async def readiness(self) -> Readiness:
        """Return what it answers to ``/ready``, or why it does not."""
        if not self.is_running:
            last = (
                ""
                if self.exit_code is None
                else f"; the last time it ended: {_told(self.exit_code)}"
            )
            return Readiness([f"it does not run{last}"])
        answer = await self.ask("/ready")
        try:
            body = orjson.loads(answer.body)
            reasons, warnings = body["reasons"], body.get("warnings", ())
            return Readiness([*map(str, reasons)], [*map(str, warnings)])
        except (ValueError, KeyError, TypeError, AttributeError):
            return Readiness(["it does not answer"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, running: asyncio.Task[int]) -> None:
        """Let it stop, and end it if that takes too long.

        Args:
            running: What ``run`` does.
        """
        self._stopping.set()
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([running], timeout=STOP_S)
        if not done:
            logger.error("%s does not stop, and is killed", self.program.name)
            self.signal(signal.SIGKILL)
            await asyncio.wait([running])

    def close(self) -> None:
        """Let go of the socket."""
        self._listener.close()


def _told(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    known = {each.value: each.name for each in ExitCode}
    return f"exit code {code} ({known.get(code, 'unknown')})"
