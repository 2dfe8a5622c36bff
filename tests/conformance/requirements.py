"""The manifest: every normative statement of MQTT 3.1.1 (its appendix B), and who proves it.

The appendix misprints two numbers, [MQTT-3.1.2.7] and [MQTT-3-8.3-4]; here they are written as
the others are.
"""

from collections.abc import Callable
from typing import TypeVar

import pytest
from tests.conformance.requirements_connect import CONNECT
from tests.conformance.requirements_messages import MESSAGES
from tests.conformance.requirements_operation import OPERATION

REQUIREMENTS = CONNECT | MESSAGES | OPERATION

Test = TypeVar("Test", bound=Callable[..., object])


def requirement(*clauses: str) -> Callable[[Test], Test]:
    """Say that a test proves these clauses, such as ``MQTT-3.1.0-1``.

    Raises:
        ValueError: A clause is not in the manifest; the module that claims it does not import.
    """
    unknown = [clause for clause in clauses if clause not in REQUIREMENTS]
    if unknown:
        raise ValueError(f"not a normative statement of MQTT 3.1.1: {', '.join(unknown)}")

    def mark(test: Test) -> Test:
        for clause in clauses:
            test = pytest.mark.requirement(clause)(test)
        return test

    return mark
