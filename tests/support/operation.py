"""Gauges that tests can set: every reading is a number in a dictionary, 0 until it is set."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from monstermq_edge.engines.ports import HostGauges
from monstermq_edge.operation.gauges import Gauges

LABELS = {
    "projection_lag_records": "projection",
    "projection_lag_s": "projection",
    "partitions_unfollowed": "projection",
    "view_backlog_bytes": "database",
}
"""The gauges that have several values, and what these are told apart by."""

OPEN_ID_SIZE = 100

OF_HOST = [field.name for field in fields(HostGauges) if field.name != "open_id_size"]
OF_EDGE = [field.name for field in fields(Gauges) if field.name != "host"]


def settable_gauges() -> tuple[Gauges, dict[str, Any]]:
    """Return gauges, and what they read: gauge name -> number, or label -> number."""
    present: dict[str, Any] = {name: {} if name in LABELS else 0 for name in OF_HOST + OF_EDGE}

    def reading(name: str) -> Callable[[], Any]:
        return lambda: present[name]

    readings: Mapping[str, Any] = {name: reading(name) for name in present}
    host = HostGauges(open_id_size=OPEN_ID_SIZE, **{name: readings[name] for name in OF_HOST})
    return Gauges(host=host, **{name: readings[name] for name in OF_EDGE}), present
