"""Which tables SQL of others may read."""

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.sections import enabled_groups
from monstermq_shared.queries.sql import TableKind
from monstermq_shared.stores.needed import archive_name, last_value_name
from monstermq_shared.stores.sql import table_name


def readable_tables(config: BrokerConfig, store_type: StoreType) -> dict[str, TableKind]:
    """Return those of one kind of database, and what each keeps.

    Raises:
        ConfigError: A group's name cannot be that of a table.
    """
    tables = {}
    for _, group in enabled_groups(config):
        if group.archive_type is store_type:
            tables[table_name(archive_name(group))] = TableKind.ARCHIVE
        if group.last_val_type is store_type:
            tables[table_name(last_value_name(group))] = TableKind.LAST_VALUES
    return tables
