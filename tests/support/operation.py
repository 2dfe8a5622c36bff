"""Gauges that tests can set: every reading is a number in a dictionary, 0 until it is set."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from monstermq_edge.operation.gauges import Gauges

PER_PROJECTION = ("projection_lag_records", "projection_lag_s")


def settable_gauges() -> tuple[Gauges, dict[str, Any]]:
    """Return gauges, and what they read: gauge name -> number, or projection -> number."""
    present: dict[str, Any] = {
        field.name: {} if field.name in PER_PROJECTION else 0 for field in fields(Gauges)
    }

    def reading(name: str) -> Callable[[], Any]:
        return lambda: present[name]

    readings: Mapping[str, Any] = {name: reading(name) for name in present}
    return Gauges(**readings), present
