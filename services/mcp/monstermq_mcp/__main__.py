"""The ``monstermq-mcp`` command, as it begins: with the signals, before all that loads slowly."""

import os
import sys

from monstermq_shared.operation.held import hold


def main() -> None:
    """Do what the command line asks and end the process with its exit code."""
    hold()
    # Only now: a signal that comes while all of this is loaded has to wait, not to kill.
    from monstermq_mcp.command import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
