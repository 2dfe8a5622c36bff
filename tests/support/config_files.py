"""Configurations as a file in the working directory has them."""

from pathlib import Path

import pytest

from monstermq_shared.config import LoadedConfig, load_config
from monstermq_shared.errors import ConfigError

STORES = (
    "BindAddress: 127.0.0.1\nSessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
    "Postgres: {Url: 'jdbc:postgresql://h/d'}\n"
)
"""Everything in a shared database, without a warning."""

BUS = STORES + "Kafka: {Servers: k, Bus: {Enabled: true}}\n"
"""A bus on Kafka over it."""


def load(text: str, *, cluster: bool = False) -> LoadedConfig:
    """Write a file, and load it."""
    path = Path("c.yaml")
    path.write_text(text)
    return load_config(path, {}, cluster=cluster)


def refusal(text: str, *, cluster: bool = False) -> str:
    """Return why a file is refused."""
    with pytest.raises(ConfigError) as caught:
        load(text, cluster=cluster)
    return str(caught.value)
