"""A library that is older than its source does not go unnoticed."""

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from monstermq_shared.operation.form import outdated_libraries


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with one library in each part, as old as its source."""
    (tmp_path / "pyproject.toml").touch()
    for part in ("shared", "services/edge"):
        package = tmp_path / part / "package"
        package.mkdir(parents=True)
        for name in ("module.py", f"module{EXTENSION_SUFFIXES[0]}", "interpreted.py"):
            (package / name).touch()
            os.utime(package / name, (1_000, 1_000))
    return tmp_path


def test_what_was_compiled_from_the_source_as_it_is_now_is_not_outdated(tree: Path) -> None:
    os.utime(tree / "shared/package/interpreted.py", (2_000, 2_000))
    assert outdated_libraries(tree) == []


@pytest.mark.parametrize("part", ["shared", "services/edge"])
def test_the_library_of_an_edited_module_is_outdated(tree: Path, part: str) -> None:
    package = tree / part / "package"
    os.utime(package / "module.py", (1_001, 1_001))
    assert outdated_libraries(tree) == [package / f"module{EXTENSION_SUFFIXES[0]}"]


def test_an_installed_program_has_no_source_to_be_compared_with(tree: Path) -> None:
    os.utime(tree / "shared/package/module.py", (1_001, 1_001))
    (tree / "pyproject.toml").unlink()
    assert outdated_libraries(tree) == []
