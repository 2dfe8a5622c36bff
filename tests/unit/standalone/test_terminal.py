"""How the tools speak, and how they end."""

import asyncio
import errno
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from monstermq.terminal import Terminal, run_tool
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode


def test_results_are_text_or_json_lines() -> None:
    for as_json, line in ((False, "3 rows"), (True, '{"rows":3}')):
        output = io.StringIO()
        Terminal(output, as_json=as_json).tell("3 rows", {"rows": 3})
        assert output.getvalue() == f"{line}\n"


def test_notes_do_not_mix_with_results_and_cannot_forge_lines() -> None:
    output, errors = io.StringIO(), io.StringIO()
    Terminal(output, errors).note("topic a\nb\x1b[31m [bold]")
    assert output.getvalue() == ""
    assert errors.getvalue() == "topic a\\nb\\x1b[31m [bold]\n"


def test_no_bar_is_drawn_where_there_is_no_terminal() -> None:
    errors = io.StringIO()
    with Terminal(io.StringIO(), errors).progress("reads", 10) as steps:
        steps.advance(4)
        steps.expect(20)
        steps.advance(2)
    assert steps.done == 6
    assert errors.getvalue() == ""


def test_a_table_can_be_read() -> None:
    output = io.StringIO()
    Terminal(output).table(["topic", "rows"], [["a/b", "7"], ["c\n", "12"]])
    lines = [line.split() for line in output.getvalue().splitlines() if line.strip()]
    assert lines[0] == ["topic", "rows"]
    assert lines[2:] == [["a/b", "7"], ["c\\n", "12"]]


def test_work_ends_with_its_own_code() -> None:
    async def work() -> ExitCode:
        return ExitCode.FAILURE

    assert run_tool(work()) is ExitCode.FAILURE


def test_output_that_cannot_be_written_is_told() -> None:
    async def work() -> ExitCode:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StartupError, match="No space left on device"):
        run_tool(work())


def test_a_failure_that_is_no_output_s_is_not_hidden() -> None:
    async def work() -> ExitCode:
        await asyncio.sleep(0)
        raise FileNotFoundError(errno.ENOENT, "No such file")

    with pytest.raises(FileNotFoundError):
        run_tool(work())


def test_a_cancellation_of_something_else_is_no_stop() -> None:
    async def work() -> ExitCode:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_tool(work(), when_stopped=ExitCode.OK)


STOPPED = """
import asyncio, sys
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.exit_codes import ExitCode

async def work():
    terminal = Terminal(sys.stdout, as_json=True)
    try:
        while True:
            terminal.tell("", {"n": 1})
            terminal.output.flush()
            await asyncio.sleep(0.01)
    finally:
        terminal.note("undone")

from monstermq_shared.operation.process import run_command

sys.exit(run_command("tool", lambda: run_tool(work())))
"""


def begun(output: int | IO[str] = subprocess.PIPE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stop_undoes_what_has_to_be() -> None:
    with begun() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == {"n": 1}
        process.terminate()
        assert process.wait(30) == ExitCode.INTERRUPTED
        assert process.stderr.read() == "undone\n"


def test_a_full_disk_is_told_once() -> None:
    with Path("/dev/full").open("w") as full, begun(full) as process:
        assert process.stderr is not None
        assert process.wait(30) == ExitCode.FAILURE
        undone, *rest = process.stderr.read().splitlines()
        assert undone == "undone"
        assert "what was found cannot be written: No space left on device" in rest[0]
        assert len(rest) == 1


def test_nobody_who_reads_is_no_failure() -> None:
    with begun() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == ExitCode.OK
        assert process.stderr.read() == "undone\n"
