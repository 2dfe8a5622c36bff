"""The name of a projector in its consumer group: the same after a restart, and nobody else's."""

import re

from monstermq_projector.groups import instance_of
from monstermq_shared.config import BrokerConfig, Metrics, Projector, StoreType


def name_of(*, of_monstermq: bool = False, **projector: str | int) -> str | None:
    config = BrokerConfig(
        session_store_type=StoreType.POSTGRES,
        projector=Projector.model_validate(projector),
        metrics=Metrics(port=9000),
    )
    return instance_of(config, of_monstermq=of_monstermq)


def test_it_is_the_same_after_a_restart() -> None:
    assert name_of() == name_of()


def test_processes_that_can_run_at_once_on_one_host_have_different_names() -> None:
    names = {
        name_of(),
        name_of(port=9500),
        name_of(bind_address="127.0.0.2"),
        name_of(bind_address="::1"),
        name_of(of_monstermq=True),
    }
    assert len(names) == 5
    for name in names:
        assert name is not None
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name), "Kafka takes no other"


def test_without_a_port_there_is_none() -> None:
    assert name_of(port=0) is None
