"""Somebody who has just installed the broker: the command, its examples, and a first tour."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.broker import START_S, BrokerProcess
from tests.support.load import Cast
from tests.support.mqtt_peer import ConnectOptions

COMMAND = str(Path(sys.executable).with_name("monstermq"))


class Newcomer(BrokerProcess):
    """The command ``monstermq``, on ports that are free.

    Args:
        directory: Where it is typed.
        config: The file it is told; without, there is none.
        variables: What else the test sets.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory)
        self._config = [] if config is None else ["-config", str(config)]
        self._variables = variables or {}

    def _prepare(self, config_yaml: str | None) -> list[str]:
        assert config_yaml is None
        return [COMMAND, *self._config]

    @property
    def environment(self) -> dict[str, str]:
        """What only a test needs: other ports."""
        return {**self.port_variables, **self._variables}

    def run(self) -> None:
        """Start it."""
        self.start(env=self.environment)

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another ``monstermq`` command in the same folder."""
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )


async def leave_traces(newcomer: Newcomer, cast: Cast) -> None:
    """Publish what is kept, and let a client owe its visit."""
    away = await cast.peer(newcomer.tcp_port)
    await away.connect("away", ConnectOptions(clean=False))
    await away.subscribe(("tour/queued", 1))
    await away.disconnect()
    guest = await cast.peer(newcomer.tcp_port)
    await guest.connect("guest")
    await guest.publish("tour/retained", b"21.5", 1, retain=True)
    for n in range(3):
        await guest.publish("tour/values", str(n + 1).encode(), 1)
    await guest.publish("tour/queued", b"four", 1)
