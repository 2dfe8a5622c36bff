"""Views say whose records have to be made, and whose acknowledgement has to wait for them."""

from collections.abc import Mapping
from typing import Any

import pytest

from monstermq_edge.views import open_views
from monstermq_shared.config import BrokerConfig
from monstermq_shared.counters import Counters
from monstermq_shared.routing import Interest

NOBODY = Interest(wanted=False, durable=False, durable_retained=False)
EVERY = Interest(wanted=True, durable=True, durable_retained=True)
ONLY_RETAINED = NOBODY._replace(durable_retained=True)


async def interest(topic: str, *groups: Mapping[str, Any], retained: str = "SQLITE") -> Interest:
    """Return what the views of these archive groups say of a topic."""
    config = BrokerConfig.from_layers(
        {
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": retained,
            "SQLite": {"Path": ":memory:"},
            "ArchiveGroups": [
                {"Name": f"G{number}", "TopicFilter": ["a/#"], **group}
                for number, group in enumerate(groups)
            ],
        }
    )
    views = await open_views(config, Counters())
    try:
        return views.interest(topic)
    finally:
        await views.close()


async def test_retained_messages_are_wanted_on_every_topic() -> None:
    assert await interest("a/b") == ONLY_RETAINED
    assert await interest("a/b", retained="MEMORY") == NOBODY


@pytest.mark.parametrize("kind", [{"ArchiveType": "SQLITE"}, {"LastValType": "SQLITE"}])
async def test_a_group_wants_what_its_filter_matches(kind: Mapping[str, str]) -> None:
    assert await interest("a/b", kind) == EVERY
    assert await interest("b", kind) == ONLY_RETAINED


@pytest.mark.parametrize("kind", [{"ArchiveType": "SQLITE"}, {"LastValType": "SQLITE"}])
async def test_a_group_of_retained_messages_wants_no_others(kind: Mapping[str, str]) -> None:
    group = {**kind, "RetainedOnly": True}
    assert await interest("a/b", group, retained="MEMORY") == ONLY_RETAINED
    assert await interest("b", group, retained="MEMORY") == NOBODY


async def test_last_values_in_memory_delay_no_acknowledgement() -> None:
    group = {"LastValType": "MEMORY"}
    assert await interest("a/b", group, retained="MEMORY") == Interest(
        wanted=True, durable=False, durable_retained=False
    )


async def test_one_group_is_enough() -> None:
    every, flagged = {"LastValType": "MEMORY"}, {"ArchiveType": "SQLITE", "RetainedOnly": True}
    assert await interest("a/b", every, flagged) == EVERY._replace(durable=False)


@pytest.mark.parametrize("filters", [["#"], ["a/#"], ["+/b", "#"]])
async def test_dollar_topics_are_asked_for_one_by_one(filters: list[str]) -> None:
    group = {"LastValType": "SQLITE", "TopicFilter": filters}
    assert await interest("a/b", group) == EVERY
    assert await interest("$a/b", group) == ONLY_RETAINED
    assert await interest("$SYS/b", group) == NOBODY
