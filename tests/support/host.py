"""The local engine's host of a broker in this process."""

from monstermq_edge.broker import Broker
from monstermq_edge.engines.local.host import LocalHost


def host_of(broker: Broker) -> LocalHost:
    """Return it."""
    assert isinstance(broker.host, LocalHost)
    return broker.host
