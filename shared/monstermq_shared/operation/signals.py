"""Signals from the first moment of a process: held, then taken by a thread of their own.

A held signal waits where its default action would end the process. A thread takes them rather than
handlers or the event loop, because it answers whatever the start is doing: importing, waiting for a
file, restoring a million sessions in one go.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.held import HELD, STOPS

SAME_SIGNAL_S = 0.2
"""Signals that come so close together count as one: ``make`` and its shell both pass one on."""

START_STOP_S = 5.0
"""How long a start that is told to stop may take to undo itself; less than Docker's ten seconds."""

logger = logging.getLogger(__name__)


class Signals:
    """Takes the signals that ``held.hold`` lets wait, and tells who listens.

    Before anybody listens there is nothing to undo, so a stop ends the process at once, with exit
    code 0. While the broker starts it may undo what it did for ``START_STOP_S``; whatever is left
    then is as safe as after a crash. SIGHUP waits until it has started.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._hang_up: Callable[[], object] | None = None
        self._hang_up_stops = False
        self._hung_up = False
        self._starting = True
        self._thread = threading.Thread(target=self._serve, name="signals", daemon=True)

    def start(self) -> None:
        """Take signals from now on."""
        self._thread.start()

    def listen(
        self,
        stop: Callable[[], object],
        hang_up: Callable[[], object],
        *,
        hang_up_stops: bool,
    ) -> None:
        """Say whom to tell; both are called in the thread of the signals.

        Args:
            stop: SIGTERM or SIGINT has come.
            hang_up: SIGHUP has come, now or while starting.
            hang_up_stops: SIGHUP is a stop as well: the terminal has been closed.
        """
        with self._lock:
            self._stop = stop
            self._hang_up = hang_up
            self._hang_up_stops = hang_up_stops

    def started(self) -> None:
        """The start is over: a stop takes the time it takes, and SIGHUP is told at once."""
        with self._lock:
            self._starting = False
            hung_up, self._hung_up = self._hung_up, False
        if hung_up:
            self._tell(self._stop if self._hang_up_stops else self._hang_up)

    def _serve(self) -> None:
        while signal.sigwait(HELD) == signal.SIGHUP and not self._hang_up_stops:
            with self._lock:
                self._hung_up = waits = self._starting
            if not waits:
                self._tell(self._hang_up)
        with self._lock:
            stop = self._stop
            if stop is None:
                os._exit(ExitCode.OK)
        self._tell(stop)
        self._watch(time.monotonic())

    def _watch(self, stopped_s: float) -> None:
        """Wait for a second signal, and while starting for the time to run out."""
        while True:
            left_s = stopped_s + START_STOP_S - time.monotonic()
            if not self._starting:
                signal.sigwait(STOPS)
            elif left_s <= 0:
                logger.warning("the start was cut off %g s after a signal to stop", START_STOP_S)
                os._exit(ExitCode.OK)
            elif signal.sigtimedwait(STOPS, left_s) is None:
                continue
            if time.monotonic() - stopped_s > SAME_SIGNAL_S:
                logger.critical("ended at once by a second signal")
                # The log is the truth: what was acknowledged is committed, whatever happens now.
                os._exit(ExitCode.OK if self._starting else ExitCode.FAILURE)

    def _tell(self, listener: Callable[[], object] | None) -> None:
        # At the very end the event loop that would be told is closed.
        with contextlib.suppress(RuntimeError):
            if listener is not None:
                listener()
