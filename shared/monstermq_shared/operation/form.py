"""Which form of the program runs: with its hot modules compiled, or as pure Python."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import monstermq_shared.messages

_TREE = Path(__file__).parents[3]  # of the source, if that is what runs


def told_version() -> str:
    """Return version and form, as people are told them."""
    return f"{version('monstermq')} ({form()})"


def form() -> str:
    """Return ``compiled`` or ``pure Python``; in a source tree also that libraries are too old."""
    # Of the compiled modules this one is imported by everything.
    if monstermq_shared.messages.__file__.endswith(".py"):
        return "pure Python"
    if outdated_libraries(_TREE):
        return "compiled, but not from the source as it is now: make compiled"
    return "compiled"


def outdated_libraries(tree: Path) -> list[Path]:
    """Return the libraries in a source tree whose source was edited since; none elsewhere."""
    if not (tree / "pyproject.toml").exists():
        return []
    suffix = EXTENSION_SUFFIXES[0]
    libraries = [*tree.glob(f"shared/**/*{suffix}"), *tree.glob(f"services/**/*{suffix}")]
    return [library for library in libraries if _is_outdated(library)]


def _is_outdated(library: Path) -> bool:
    source = library.with_name(library.name.partition(".")[0] + ".py")
    return source.exists() and source.stat().st_mtime > library.stat().st_mtime
