"""From a store's type to its database: the one place that knows which there are.

A database's package is loaded when it is asked for: a driver that is not installed, or slow to
load, is met only where it is needed.
"""

from importlib import import_module
from typing import Protocol, cast

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import ConfigError
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.ports import DatabaseQueries
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


class _Queried(Protocol):
    """A module that opens the database of one type for questions."""

    def open_queries(
        self, config: BrokerConfig, cursors: Cursors, *, timeout_s: float
    ) -> DatabaseQueries:
        """See ``open_queries``."""
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


def open_queries(
    store_type: StoreType, config: BrokerConfig, cursors: Cursors, *, timeout_s: float
) -> DatabaseQueries | None:
    """Return the questions to the database of a store type, None if it answers none.

    It is opened, for reading only, by the first question.

    Args:
        store_type: Which.
        config: Where it is.
        cursors: What seals where pages end.
        timeout_s: Seconds after which a question is given up.

    Raises:
        ConfigError: Its section is wrong.
    """
    package = _PACKAGES.get(store_type)
    if package is None:
        return None
    module = cast("_Queried", import_module(package))
    return module.open_queries(config, cursors, timeout_s=timeout_s)
