"""The side of a process that a supervisor has started."""

import contextlib
import os
import signal
import socket
import threading
from typing import NamedTuple, Self

from monstermq_shared.errors import ConfigError

OPTION = "supervised"
"""The option that a supervisor adds to the command line of a process it starts."""


class Supervised(NamedTuple):
    """What a supervisor tells a process.

    Attributes:
        name: How the log names it.
        descriptor: Of a socket that listens, for its /health, /ready and /metrics.
    """

    name: str
    descriptor: int

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read the value of ``OPTION``.

        Raises:
            ConfigError: No supervisor wrote that.
        """
        if text is None:
            return None
        name, _, descriptor = text.rpartition(":")
        if not name or not descriptor.isdecimal():
            raise ConfigError(f"--{OPTION} is for processes that monstermq starts; leave it out")
        return cls(name, int(descriptor))

    def __str__(self) -> str:
        return f"{self.name}:{self.descriptor}"

    def listener(self) -> socket.socket:
        """Return the socket.

        Raises:
            ConfigError: There is none.
        """
        try:
            return socket.socket(fileno=self.descriptor)
        except OSError as exc:
            raise ConfigError(f"--{OPTION} {self}: {exc.strerror}; leave it out") from exc

    def stop_with_supervisor(self) -> None:
        """Stop as if told to, should the supervisor die: its end of our standard input closes."""
        threading.Thread(target=_wait_for_the_end, name="supervisor", daemon=True).start()


def _wait_for_the_end() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
