"""Which signals wait from the first moment of a process on; apart, so that it is loaded at once."""

import signal

STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
HELD = STOPS | {signal.SIGHUP}


def hold() -> None:
    """Let them wait, in this thread and all that it will start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release() -> None:
    """Let them act as usual, and those that wait at once: for commands that run no broker."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
