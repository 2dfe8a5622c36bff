"""What is asked of a database when it is opened."""

from dataclasses import dataclass


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
