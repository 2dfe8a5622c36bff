"""What is asked of a database when it is opened, and what its stores are called."""

from dataclasses import dataclass

from monstermq_shared.config import ArchiveGroup

RETAINED = "RetainedMessages"
"""The retained store's logical name; tables are called after it in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoresNeeded:
    """What a database is opened with.

    Attributes:
        session_store: Whether sessions are kept there.
        message_stores: Logical names of retained and last-value stores, such as ``MCPLastval``.
        archive_stores: Logical names of archives, such as ``MCPArchive``.
    """

    session_store: bool
    message_stores: tuple[str, ...]
    archive_stores: tuple[str, ...]


NOTHING = StoresNeeded(session_store=False, message_stores=(), archive_stores=())
"""For a database that only keeps marks."""


def last_value_name(group: ArchiveGroup) -> str:
    """Return the logical name of a group's last values, as the original calls it."""
    return f"{group.name}Lastval"


def archive_name(group: ArchiveGroup) -> str:
    """Return the logical name of a group's archive, as the original calls it."""
    return f"{group.name}Archive"
