"""The operator's tools, run in this process as the command line says, and as processes."""

import io
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from monstermq.cli import parse_arguments
from monstermq.command import _OPERATIONS
from monstermq_shared.exit_codes import ExitCode

WITHIN_S = 60.0


def run_tool(*arguments: str) -> tuple[ExitCode, list[str]]:
    """Do what a command line asks, in a thread without an event loop; return code and lines."""
    invocation = parse_arguments(arguments)
    module, name = _OPERATIONS[type(invocation)]  # type: ignore[index]  # only tools are asked for
    output = io.StringIO()
    code = getattr(import_module(module), name)(invocation, {}, output)
    return code, output.getvalue().splitlines()


def begin_tool(*arguments: str, errors: Path) -> "subprocess.Popen[str]":
    """Start one as a process; its results can be read, its notes are in a file."""
    with errors.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "monstermq", *arguments],
            stdout=subprocess.PIPE,
            stderr=file,
            env=os.environ | {"COLUMNS": "1000"},
            text=True,
        )
