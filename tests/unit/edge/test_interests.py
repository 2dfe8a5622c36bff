"""Views say whose records have to be made, whose acknowledgement waits, and who is followed."""

from collections.abc import Mapping
from typing import Any

import pytest

from monstermq_edge.engines.local.followers import Followers
from monstermq_edge.engines.local.interests import Interests
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.routing import Interest
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.view_set import ViewSet

NOBODY = Interest(wanted=False, durable=False, durable_retained=False)
EVERY = Interest(wanted=True, durable=True, durable_retained=True)
ONLY_RETAINED = NOBODY._replace(durable_retained=True)


def interests_of(
    *groups: Mapping[str, Any], retained: str = "SQLITE"
) -> tuple[Interests, Followers]:
    """Return what the views of these archive groups want, with sessions in SQLite."""
    config = BrokerConfig.from_layers(
        {
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": retained,
            "ArchiveGroups": [
                {"Name": f"G{number}", "TopicFilter": ["a/#"], **group}
                for number, group in enumerate(groups)
            ],
        }
    )
    catalogue = Catalogue(config)
    followers = Followers(catalogue, 1_000)
    interests = Interests(
        ViewSet.of(catalogue, StoreType.SQLITE),
        ViewSet.of(catalogue, StoreType.MEMORY),
        [(at.backlog, at.views) for at in followers.followed],
    )
    return interests, followers


def interest(topic: str, *groups: Mapping[str, Any], retained: str = "SQLITE") -> Interest:
    """Return what the views of these archive groups say of a topic."""
    interests, _ = interests_of(*groups, retained=retained)
    return interests.interest(topic)


def test_retained_messages_are_wanted_on_every_topic() -> None:
    assert interest("a/b") == ONLY_RETAINED
    assert interest("a/b", retained="MEMORY") == NOBODY


@pytest.mark.parametrize("kind", [{"ArchiveType": "SQLITE"}, {"LastValType": "SQLITE"}])
def test_a_group_wants_what_its_filter_matches(kind: Mapping[str, str]) -> None:
    assert interest("a/b", kind) == EVERY
    assert interest("b", kind) == ONLY_RETAINED


@pytest.mark.parametrize("kind", [{"ArchiveType": "SQLITE"}, {"LastValType": "SQLITE"}])
def test_a_group_of_retained_messages_wants_no_others(kind: Mapping[str, str]) -> None:
    group = {**kind, "RetainedOnly": True}
    assert interest("a/b", group, retained="MEMORY") == ONLY_RETAINED
    assert interest("b", group, retained="MEMORY") == NOBODY


def test_last_values_in_memory_delay_no_acknowledgement() -> None:
    group = {"LastValType": "MEMORY"}
    assert interest("a/b", group, retained="MEMORY") == Interest(
        wanted=True, durable=False, durable_retained=False
    )


def test_one_group_is_enough() -> None:
    every, flagged = {"LastValType": "MEMORY"}, {"ArchiveType": "SQLITE", "RetainedOnly": True}
    assert interest("a/b", every, flagged) == EVERY._replace(durable=False)


@pytest.mark.parametrize("filters", [["#"], ["a/#"], ["+/b", "#"]])
def test_dollar_topics_are_asked_for_one_by_one(filters: list[str]) -> None:
    group = {"LastValType": "SQLITE", "TopicFilter": filters}
    assert interest("a/b", group) == EVERY
    assert interest("$a/b", group) == ONLY_RETAINED
    assert interest("$SYS/b", group) == NOBODY


# -- views elsewhere -----------------------------------------------------------------------------


async def test_a_view_elsewhere_delays_no_acknowledgement_and_is_followed() -> None:
    interests, followers = interests_of({"ArchiveType": "POSTGRES"})
    (elsewhere,) = followers.followed
    assert elsewhere.store_type is StoreType.POSTGRES
    found = interests.interest("a/b")
    assert (found.wanted, found.durable, found.durable_retained) == (True, False, True)
    assert found.followers == found.followers_retained == (elsewhere.backlog,)
    assert interests.interest("b") == ONLY_RETAINED


async def test_what_is_retained_elsewhere_holds_only_who_retains() -> None:
    interests, followers = interests_of(retained="POSTGRES")
    (elsewhere,) = followers.followed
    assert followers.retained is elsewhere.backlog
    found = interests.interest("a/b")
    assert (found.wanted, found.durable, found.durable_retained) == (False, False, False)
    assert (found.followers, found.followers_retained) == ((), (elsewhere.backlog,))


async def test_a_mix_of_all_is_told_apart_by_topic() -> None:
    interests, followers = interests_of(
        {"ArchiveType": "POSTGRES"},
        {"LastValType": "SQLITE", "TopicFilter": ["b/#"]},
        {"LastValType": "MEMORY", "TopicFilter": ["c/#"]},
    )
    (elsewhere,) = followers.followed
    assert interests.interest("a/b").followers == (elsewhere.backlog,)
    assert interests.interest("b/b") == EVERY
    assert interests.interest("c/b") == Interest(True, False, durable_retained=True)
    assert interests.interest("d") == ONLY_RETAINED
