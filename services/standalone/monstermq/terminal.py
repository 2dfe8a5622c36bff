"""How the operator's tools speak: results on one stream, everything else on the other.

Results go to standard output, as text for people or as one JSON object a line for programs; notes
and progress go to standard error, so that results can be piped.
"""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import orjson
import uvloop
from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.logging import escape, silence_kafka_client

WIDTH_MAX = 1_000
"""Columns of a table that goes into a file, where nothing says how wide it may be."""


class Steps:
    """Long work that is shown as a bar, with its rate and the time left.

    Args:
        bar: What draws it; nothing is drawn where it is disabled.
        task: Which of its lines.
    """

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.done = 0
        self._bar = bar
        self._task = task

    def advance(self, count: int) -> None:
        """So many more are done. Cheap, and cheaper once per batch."""
        self.done += count
        self._bar.update(self._task, completed=self.done)

    def expect(self, total: int | None) -> None:
        """So many there are; None: nobody knows."""
        self._bar.update(self._task, total=total)


class Terminal:
    """Where a tool tells what it has found and what it does.

    Args:
        output: Results.
        errors: Notes and progress; None: standard error.
        as_json: Results are JSON lines.

    Attributes:
        as_json: See above.
        output: See above.
    """

    def __init__(
        self, output: TextIO, errors: TextIO | None = None, *, as_json: bool = False
    ) -> None:
        self.output = output
        self.as_json = as_json
        self._errors = Console(file=errors or sys.stderr, soft_wrap=True)

    def tell(self, text: str, members: Mapping[str, Any]) -> None:
        """Write one result: the text for people, the members for programs."""
        line = orjson.dumps(dict(members)).decode() if self.as_json else text
        self.output.write(f"{line}\n")

    def note(self, text: str) -> None:
        """Say something beside the results. What peers have sent in it is made harmless."""
        self._errors.print(Text(escape(text)))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write results as a table for people; with JSON use ``tell``."""
        table = Table(*head, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(Text(escape(cell)) for cell in row))
        wide = None if self.output.isatty() else WIDTH_MAX
        Console(file=self.output, width=wide).print(table)

    @contextmanager
    def screen(self) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
        """Show results that replace each other while the block lasts.

        A terminal has the last one on it; into a file, and with JSON, they follow each other.
        """
        console = Console(file=self.output, soft_wrap=True)
        if self.as_json or not console.is_terminal:

            def show(text: str, members: Mapping[str, Any]) -> None:
                self.tell(text, members)
                self.output.flush()

            yield show
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:

            def replace(text: str, _members: Mapping[str, Any]) -> None:
                live.update(Text(text), refresh=True)

            yield replace

    @contextmanager
    def progress(
        self,
        what: str,
        total: int | None,
        unit: str = "records",
        *,
        beside_results: bool = False,
    ) -> Iterator[Steps]:
        """Show how far some work is while the block lasts; not where there is no terminal.

        Args:
            what: What is done, such as ``reads the log``.
            total: How many steps there are; None: nobody knows.
            unit: What a step is, in the plural.
            beside_results: Results are written meanwhile: no bar if they are on the terminal, too.
        """
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(compact=True),
            console=self._errors,
            disable=not self._errors.is_terminal or (beside_results and self.output.isatty()),
            transient=True,
        )
        with bar:
            yield Steps(bar, bar.add_task(what, total=total))


class _Rate(ProgressColumn):
    """Steps per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Draw it."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self._unit}/s")


def run_tool(
    work: Coroutine[Any, Any, ExitCode], *, when_stopped: ExitCode = ExitCode.INTERRUPTED
) -> ExitCode:
    """Run what a tool does until it ends, SIGINT or SIGTERM comes, or nobody reads what it writes.

    The work is cancelled then, and undoes what it has to in ``finally``.

    Args:
        work: It; returns how the process ends.
        when_stopped: How it ends when it is stopped: OK for a tool that has no other end.

    Raises:
        StartupError: What it writes cannot be written.
        MonsterError: Whatever the work raises.
    """
    silence_kafka_client()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_stoppable(work, when_stopped))
    except BrokenPipeError:
        _give_up_output()
        return ExitCode.OK
    except OSError as exc:
        _give_up_output()
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}:
            raise
        raise StartupError(
            f"what was found cannot be written: {exc.strerror}; the output ends where it was full",
            exit_code=ExitCode.FAILURE,
        ) from exc


def _give_up_output() -> None:
    """See that Python does not fail once more at its end, by what it could not write."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _stoppable(work: Coroutine[Any, Any, ExitCode], when_stopped: ExitCode) -> ExitCode:
    loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
    # Beside a test's own loop, or in a thread, signals are not ours to take.
    with suppress(ValueError, RuntimeError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelling():  # nobody has stopped it: it met the end of something else
            raise
        return when_stopped
