"""Which processes a projector consists of, and what groups they come in."""

from typing import Any

import pytest

from monstermq_projector.groups import consumer_arguments, group_of, instance_of
from monstermq_projector.parts import Part, parts_of, program_of
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.fields import ProjectorKind

VIEWS = Part(ProjectorKind.VIEWS, StoreType.POSTGRES)


def config(**more: Any) -> BrokerConfig:
    group = {"Name": "G", "ArchiveType": "POSTGRES", "LastValType": "MEMORY"}
    return BrokerConfig.from_layers(
        {
            "SessionStoreType": "POSTGRES",
            "RetainedStoreType": "POSTGRES",
            "ArchiveGroups": [group],
            **more,
        }
    )


def test_each_database_with_views_is_a_process_and_so_are_the_sessions() -> None:
    assert [part.name for part in parts_of(config(), tuple(ProjectorKind))] == [
        "views-postgres",
        "sessions-postgres",
    ]
    assert parts_of(config(), [ProjectorKind.VIEWS]) == [VIEWS]
    assert parts_of(config(), tuple(ProjectorKind), StoreType.KAFKA) == []


def test_an_archive_in_kafka_is_one_more() -> None:
    group = {"Name": "G", "ArchiveType": "KAFKA"}
    parts = parts_of(config(ArchiveGroups=[group]), [ProjectorKind.VIEWS])
    assert [part.name for part in parts] == ["views-postgres", "views-kafka"]


def test_a_group_is_that_of_one_log_and_one_database() -> None:
    name = group_of(VIEWS, "kafka:cluster:monster", "localhost:5432/a")
    assert name.startswith("monstermq.cluster.monster.views-postgres.")
    others = [
        group_of(VIEWS, "kafka:cluster:monster", "localhost:5432/b"),
        group_of(VIEWS, "kafka:cluster:other", "localhost:5432/a"),
        group_of(VIEWS._replace(kind=ProjectorKind.SESSIONS), "kafka:cluster:monster", "x"),
    ]
    assert len({name, *others}) == 4


def test_a_process_has_a_name_that_outlives_it_if_a_port_is_its_own() -> None:
    assert instance_of(config(Projector={"Port": 7}), of_monstermq=False).endswith("-7")  # type: ignore[union-attr]
    assert instance_of(config(Metrics={"Port": 8}), of_monstermq=True).endswith("-8")  # type: ignore[union-attr]
    assert instance_of(config(Projector={"Port": 0}), of_monstermq=False) is None
    arguments = consumer_arguments(config(), VIEWS, "host-7")
    assert arguments["group_instance_id"] == "host-7-views-postgres"
    assert "group_instance_id" not in consumer_arguments(config(), VIEWS, None)


@pytest.mark.parametrize("seconds", [2, 30])
def test_a_worker_shows_four_times_in_its_session_that_it_lives(seconds: int) -> None:
    arguments = consumer_arguments(config(Projector={"SessionTimeoutS": seconds}), VIEWS, None)
    assert arguments["session_timeout_ms"] == seconds * 1000
    assert arguments["heartbeat_interval_ms"] == seconds * 250


def test_a_program_is_told_its_part() -> None:
    program = program_of(VIEWS, ["-config", "a.yaml"], "host-7")
    assert program.name == "projector-views-postgres"
    assert program.arguments == [
        *("-config", "a.yaml"),
        *("--kinds", "VIEWS", "--store", "POSTGRES", "--instance", "host-7"),
    ]
