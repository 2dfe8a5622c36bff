"""From a store's type to its database: the one place that knows which there are.

A database's package is loaded when it is asked for: a driver that is not installed, or slow to
load, is met only where it is needed.
"""

from importlib import import_module
from typing import Protocol, cast

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import ConfigError
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.ports import Database

_PACKAGES = {
    StoreType.SQLITE: "monstermq_shared.stores.sqlite.configured",
    StoreType.POSTGRES: "monstermq_shared.stores.postgres.configured",
}
"""Where each type's ``open_configured`` is."""

_BESIDE = {StoreType.KAFKA: "monstermq_shared.stores.kafka.configured"}
"""Where the ``open_beside`` of those types is that keep their marks in another database."""


class _Configured(Protocol):
    """A module that opens the database of one type."""

    async def open_configured(self, config: BrokerConfig, needed: StoresNeeded) -> Database:
        """See ``open_database``."""
        ...


class _ConfiguredBeside(Protocol):
    """A module that opens what keeps its marks in another database."""

    async def open_beside(
        self, config: BrokerConfig, needed: StoresNeeded, marks: Database
    ) -> Database:
        """See ``open_database``."""
        ...


async def open_database(
    store_type: StoreType,
    config: BrokerConfig,
    needed: StoresNeeded,
    *,
    marks: Database | None = None,
) -> Database:
    """Open the database of a store type with what is needed of it; nobody else may have it then.

    Args:
        store_type: Which.
        config: Where it is.
        needed: What it is opened with.
        marks: The session store's database, where KAFKA keeps its marks. It must outlive the new
            one.

    Raises:
        ConfigError: There is no such database in this release, or its section is wrong.
        StartupError, StoreError: It cannot be opened; the message says what to do.
    """
    if store_type in _BESIDE and marks is not None:
        beside = cast("_ConfiguredBeside", import_module(_BESIDE[store_type]))
        return await beside.open_beside(config, needed, marks)
    package = _PACKAGES.get(store_type)
    if package is None:
        raise ConfigError(f"stores of type {store_type} are not available in this release")
    module = cast("_Configured", import_module(package))
    return await module.open_configured(config, needed)
