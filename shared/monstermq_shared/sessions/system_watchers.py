"""Who subscribes to ``$SYS``: counted as subscriptions come and go, so that nobody looks for them.

A client may have 10,000 such subscriptions, and there may be many such clients.
"""

from monstermq_shared.sessions.session import ClientSession
from monstermq_shared.topics import is_system_topic, reaches_client_statistics


class SystemWatchers:
    """Counts subscriptions to ``$SYS`` topics; those of sessions without a connection do not count.

    Attributes:
        topics: Subscriptions that can match ``$SYS`` topics.
        clients: Those of them that can match the statistics of clients.
    """

    def __init__(self) -> None:
        self.topics = 0
        self.clients = 0
        # Of each session that has any, connected or not: until its end, or until it has none.
        self._counts: dict[ClientSession, tuple[int, int]] = {}

    def subscribed(self, session: ClientSession, topic_filter: str) -> None:
        """A session has a subscription that it did not have."""
        self._add(session, topic_filter, 1)

    def unsubscribed(self, session: ClientSession, topic_filter: str) -> None:
        """A session has a subscription no more."""
        self._add(session, topic_filter, -1)

    def _add(self, session: ClientSession, topic_filter: str, change: int) -> None:
        if not is_system_topic(topic_filter):
            return
        of_clients = change if reaches_client_statistics(topic_filter) else 0
        topics, clients = self._counts.get(session, (0, 0))
        if topics + change:
            self._counts[session] = (topics + change, clients + of_clients)
        else:
            del self._counts[session]
        if session.link is not None:
            self.topics += change
            self.clients += of_clients

    def attached(self, session: ClientSession) -> None:
        """A session has a connection now."""
        topics, clients = self._counts.get(session, (0, 0))
        self.topics += topics
        self.clients += clients

    def detached(self, session: ClientSession) -> None:
        """A session has no connection any more."""
        topics, clients = self._counts.get(session, (0, 0))
        self.topics -= topics
        self.clients -= clients

    def ended(self, session: ClientSession) -> None:
        """A session without a connection has ended."""
        self._counts.pop(session, None)
