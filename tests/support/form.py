"""What a test needs of the pure form: compiled classes let nobody replace a method."""

import importlib
from typing import Any

import pytest

from monstermq_shared.operation.form import form

COMPILED = form() != "pure Python"

pure_only = pytest.mark.skipif(
    COMPILED,
    reason="makes, changes or looks at a class of ours in a way that only the pure form allows",
)


def breaks_of(module: str) -> dict[str, Any]:
    """Return ``BREAKS`` of a module that derives from our classes; none in the compiled form."""
    if COMPILED:
        return {}
    found: dict[str, Any] = importlib.import_module(module).BREAKS
    return found
