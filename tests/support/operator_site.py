"""A log and a database for the operator's commands, which run in the tests' process."""

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from monstermq.adopting import adopt
from monstermq.cli import parse_arguments
from monstermq.invocations import Adopt, ListQuarantine, MendQuarantine, ShowQuarantine, Status
from monstermq.quarantine import list_quarantine, show_quarantine
from monstermq.quarantine_mending import mend_quarantine
from monstermq.status import status
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.errors import (
    MonsterError,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.process import exit_status


@dataclass
class Site:
    """A configuration, and what it is about."""

    path: Path
    bus: KafkaBus
    url: str

    def run(self, *arguments: str) -> list[str]:
        """Run a command in this process; return the lines it wrote."""
        return run(*arguments, "-config", str(self.path))


def run(*arguments: str) -> list[str]:
    output = io.StringIO()
    match parse_arguments(arguments):
        case Status() as invocation:
            code = status(invocation, {}, output)
        case Adopt() as invocation:
            code = adopt(invocation, {}, output)
        case ListQuarantine() as invocation:
            code = list_quarantine(invocation, {}, output)
        case ShowQuarantine() as invocation:
            code = show_quarantine(invocation, {}, output)
        case MendQuarantine() as invocation:
            code = mend_quarantine(invocation, {}, output)
        case _:
            pytest.fail("not an operator's command")
    assert code == ExitCode.OK
    return output.getvalue().splitlines()


def configure(path: Path, servers: str, topic: str, url: str) -> Path:
    path.write_text(
        f"Kafka: {{Servers: '{servers}', Bus: {{Enabled: true, Topic: {topic}, Partitions: 3}}}}\n"
        "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
        f"Postgres: {{Url: '{url}'}}\n"
        "ArchiveGroups: [{Name: A, LastValType: NONE, ArchiveType: POSTGRES}]\n"
    )
    return path


async def in_thread(site: Site, *arguments: str) -> list[str]:
    return await asyncio.to_thread(site.run, *arguments)


def exit_code(error: MonsterError) -> int:
    return exit_status(error)
