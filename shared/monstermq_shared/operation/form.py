"""Which form of the program runs: with its hot modules compiled, or as pure Python."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import monstermq_shared.messages

_FOLDER = Path(__file__).parents[2]  # the packages are there, or beside it in a source tree


def told_version() -> str:
    """Return version and form, as people are told them."""
    return f"{version('monstermq')} ({form()})"


def form() -> str:
    """Return ``compiled`` or ``pure Python``; in a source tree also that libraries are too old."""
    # Of the compiled modules this one is imported by everything.
    if monstermq_shared.messages.__file__.endswith(".py"):
        return "pure Python"
    tree = _FOLDER.parent
    if (tree / "pyproject.toml").exists() and any(map(_is_outdated, _libraries(tree))):
        return "compiled, but not from the source as it is now: make compiled"
    return "compiled"


def _libraries(tree: Path) -> list[Path]:
    suffix = EXTENSION_SUFFIXES[0]
    return [*tree.glob(f"shared/**/*{suffix}"), *tree.glob(f"services/**/*{suffix}")]


def _is_outdated(library: Path) -> bool:
    source = library.with_name(library.name.partition(".")[0] + ".py")
    return source.exists() and source.stat().st_mtime > library.stat().st_mtime
