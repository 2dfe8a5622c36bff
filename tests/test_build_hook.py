"""What the build hook refuses: without it, the pure form would be built in silence."""

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.support.repository import ROOT

hook: Any = importlib.import_module("hatch_build")  # imported so, mypy does not judge it

CONFIG: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "hatch"
]["build"]["targets"]["wheel"]["hooks"]["custom"]


def test_every_line_of_the_lists_names_modules() -> None:
    sources = hook._sources(ROOT, CONFIG)
    assert "shared/monstermq_shared/messages.py" in sources
    assert not set(CONFIG["interpreted"]) & set(sources)
    assert all((ROOT / source).is_file() for source in sources)


@pytest.mark.parametrize("which", ["compiled", "interpreted"])
def test_a_line_that_names_none_is_refused(which: str) -> None:
    config = CONFIG | {which: [*CONFIG[which], "shared/renamed/*.py"]}
    with pytest.raises(ValueError, match=r"not there: \['shared/renamed/\*\.py'\]"):
        hook._sources(ROOT, config)


def test_what_would_not_be_compiled_anyway_cannot_be_left_out(tmp_path: Path) -> None:
    for name in ("one.py", "other.py"):
        (tmp_path / name).touch()
    config = {"compiled": ["one.py"], "interpreted": ["other.py"]}
    with pytest.raises(ValueError, match=r"not there: \['other\.py'\]"):
        hook._sources(tmp_path, config)


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("0", False), ("", False)])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool) -> None:
    monkeypatch.setenv("MONSTERMQ_COMPILED", value)
    assert hook._is_wanted() is wanted


def test_without_it_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONSTERMQ_COMPILED", raising=False)
    assert not hook._is_wanted()


@pytest.mark.parametrize("value", ["true", "yes", "2", " 1"])
def test_another_word_for_yes_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MONSTERMQ_COMPILED", value)
    with pytest.raises(ValueError, match="1 compiles, 0 does not"):
        hook._is_wanted()
