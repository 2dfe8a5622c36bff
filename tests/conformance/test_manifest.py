"""What the manifest claims is proven, and what the tests prove is in the manifest."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.conformance.requirements import REQUIREMENTS, requirement

TESTS = Path(__file__).parents[1]


def _claims_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "requirement":
            for argument in decorator.args:
                yield ast.literal_eval(argument)


@cache
def _claims() -> dict[str, list[str]]:
    """Map each claimed clause to its tests; read from the sources, so that one file run alone
    judges all of them."""
    claims: dict[str, list[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for clause in _claims_of(node):
                    claims.setdefault(clause, []).append(f"{path.name}::{node.name}")
    return claims


def test_the_manifest_holds_every_statement_of_appendix_b() -> None:
    assert len(REQUIREMENTS) == 141


def test_every_statement_is_proven_by_a_test_or_deferred_for_a_reason() -> None:
    claims = _claims()
    unproven = [
        clause
        for clause, entry in REQUIREMENTS.items()
        if entry.deferred is None and clause not in claims
    ]
    assert unproven == []


def test_every_claim_is_in_the_manifest() -> None:
    assert sorted(_claims().keys() - REQUIREMENTS.keys()) == []


def test_no_deferred_statement_is_claimed() -> None:
    claims = _claims()
    claimed = {c: claims[c] for c, entry in REQUIREMENTS.items() if entry.deferred and c in claims}
    assert claimed == {}


def test_a_claim_of_an_unknown_statement_fails_at_import() -> None:
    with pytest.raises(ValueError, match=r"MQTT-9\.9\.9-9"):
        requirement("MQTT-9.9.9-9")
