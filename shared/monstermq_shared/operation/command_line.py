"""Command lines: the original's spelling, with one dash or two, and nothing else in silence."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from monstermq_shared.config import parse_log_level
from monstermq_shared.config.fields import check_file_name
from monstermq_shared.errors import ConfigError

_FIRST_WORDS = {
    "db": "db backup FILE",
    "status": "status",
    "quarantine": "quarantine list",
    "tail": "tail FILTER",
    "replay": "replay FILTER --from T",
}


class CommandLine(argparse.ArgumentParser):
    """An argparse parser without abbreviations that raises instead of ending the process.

    Args:
        command: The command's name.
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError(f"{message}; see {self.prog} -help")

    def option(self, name: str, **settings: object) -> None:
        """Add an option that may be written with one dash or two."""
        self.add_argument(f"-{name}", f"--{name}", dest=name, **settings)  # type: ignore[arg-type]  # argparse's own overloads check them

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse, and refuse what is left over with the nearest option there is."""
        parsed, unknown = self.parse_known_args(list(arguments))
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self._hint(unknown[0])}")
        return parsed

    def _get_option_tuples(self, _option_string: str) -> list[Any]:
        # What allow_abbrev leaves in place for one dash: -c would be "ambiguous".
        return []

    def _hint(self, word: str) -> str:
        if word in {"-check", "--check"}:
            return "; monstermq -config FILE --check looks at the configuration of all processes"
        if word == "-c":  # as mosquitto spells it
            return "; did you mean -config FILE?"
        if word in _FIRST_WORDS:
            return f"; {word} comes first: monstermq {_FIRST_WORDS[word]} -config FILE"
        if word.endswith((".yaml", ".yml")):
            return f"; did you mean -config {word}?"
        options = [option for option in self._option_string_actions if option.startswith("-")]
        near = difflib.get_close_matches(word.partition("=")[0], options, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def file_name(text: str) -> Path:
    """Read the name of a file, for argparse."""
    try:
        return Path(check_file_name(text))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def whole_number(text: str, lowest: int, highest: int) -> int:
    """Read a number without a sign, for argparse."""
    # More digits than the highest has are zeros, or too many to be looked at.
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(highest))
    if not digits or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not a number from {lowest} to {highest}"
        )
    return int(text)


def level_of(text: str | None) -> int | None:
    """Read a log level of ours or of java.util.logging; return Python's, None for None.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return None if text is None else parse_log_level(text)
    except ValueError as exc:
        raise ConfigError(f"-log {exc}") from exc
