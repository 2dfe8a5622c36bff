"""Rules of the house that no linter knows."""

import ast
from pathlib import Path

import pytest
from tests.support.order import LONGEST, TESTS
from tests.support.repository import ROOT, repository_files, walked_files

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500


def files(*suffixes: str) -> list[Path]:
    """Return the repository's files with one of the suffixes."""
    return [path for path in repository_files() if path.suffix in suffixes]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", files(".py"), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= FUNCTION_LINES_MAX, f"{node.name} in line {node.lineno}"


def test_no_package_marker_hides_a_dependency() -> None:
    # A lone tests/unit/mcp/__init__.py would make pytest import it as the top-level mcp.
    stray = [p for p in files(".py") if p.name == "__init__.py" and "tests" in p.parts]
    assert stray == []


def test_the_files_of_tests_that_begin_are_there() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_no_registry_is_named() -> None:
    # Split, so that this file does not name one itself.
    hosts = ["pypi." + "org", "pythonhosted." + "org", "registry.npmjs." + "org"]
    suffixes = (".py", ".toml", ".md", ".txt", ".yaml", ".yml", ".json", ".sh", "")
    for path in files(*suffixes):
        text = path.read_text(encoding="utf-8", errors="ignore")
        assert not [host for host in hosts if host in text], path


def test_nothing_is_left_for_later() -> None:
    marker = "TO" + "DO"
    assert [p for p in files(".py", ".sql", ".md") if marker in p.read_text("utf-8")] == []


def test_without_git_the_same_files_are_looked_at() -> None:
    assert set(repository_files()) <= set(walked_files())
