"""The two forms of our broker: compiled, as it is in this tree, and pure Python from a copy."""

import atexit
import shutil
import tempfile
import tomllib
from enum import StrEnum
from functools import cache
from pathlib import Path

from tests.support.repository import ROOT

from monstermq_shared.operation.form import form

_LEFT_OUT = shutil.ignore_patterns("*.so", "__pycache__")


class Form(StrEnum):
    """What our broker is made of."""

    COMPILED = "compiled"
    PURE = "pure"

    @property
    def broker(self) -> str:
        """Its name in tables."""
        return f"MonsterMQ, {self}"

    @property
    def start_line(self) -> str:
        """What is in the line that a broker of this form starts with, and of no other."""
        told = "pure Python" if self is Form.PURE else self
        return f"({told}), configuration:"


def forms() -> tuple[Form, ...]:
    """Return those that can be run from this tree: its own is the first."""
    return (Form.PURE,) if form() == "pure Python" else (Form.COMPILED, Form.PURE)


@cache
def pure_packages() -> Path:
    """Copy our packages without the libraries beside them; the copy ends with this process.

    Python finds them there first if the folder is its ``PYTHONPATH``.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-pure-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(ROOT / package, folder / Path(package).name, ignore=_LEFT_OUT)
    return folder
