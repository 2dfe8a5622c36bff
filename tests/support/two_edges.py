"""Two edges under one supervisor: ``python -m tests.support.two_edges PORT CONFIG CONFIG``."""

import asyncio
import logging
import sys

from monstermq_shared.config import LogFormat
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.held import hold
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.child import Program
from monstermq_shared.supervisor.command import serve


class Page:
    """Nothing to see."""

    body = b""
    headers = {"content-type": "text/plain"}  # noqa: RUF012 - the port's attribute


def main() -> int:
    """Run them until told to stop."""
    hold()
    configure_logging(logging.INFO, LogFormat.TEXT)
    signals = Signals()
    signals.start()
    port, *configs = sys.argv[1:]
    programs = [
        Program(name=f"edge-{number}", module="monstermq_edge", arguments=["-config", config])
        for number, config in enumerate(configs, start=1)
    ]
    place = Place(host="127.0.0.1", port=int(port))
    return asyncio.run(serve(programs, place, Page(), signals))


if __name__ == "__main__":
    sys.exit(main())
