"""What a plan that PostgreSQL has executed says of the work it took."""

import json
from collections.abc import Iterator
from typing import Any

from monstermq_shared.stores.postgres.connection import Connection

Node = dict[str, Any]


async def executed(connection: Connection, query: str, *parameters: object) -> list[Node]:
    """Execute a statement and return the nodes of its plan."""
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *parameters
    )
    return [*_nodes(json.loads(explained)[0]["Plan"])]


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def rows_of(node: Node, *removed: str) -> int:
    """Return how many rows have passed a node, or were removed by its join filter or another."""
    kinds = ["Rows Removed by Join Filter", *removed]
    rows = node["Actual Rows"] + sum(node.get(kind, 0) for kind in kinds)
    return int(rows * node["Actual Loops"])


def blocks_of(node: Node) -> int:
    """Return how many pages a node and those below it have looked at."""
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])
