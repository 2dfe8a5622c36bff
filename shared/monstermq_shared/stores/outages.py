"""Whether a database does what it is asked: told once when it begins to fail, and once at the end.

Commits, reads and maintenance notice the same trouble, each in its own time. Whoever operates the
broker is told of one trouble.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from monstermq_shared.errors import MonsterError, StoreUnavailable
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

T = TypeVar("T")

COMMITS = "commits"
"""What a database is asked by whoever writes to it."""


class Outage:
    """What fails of all that one database is asked.

    Attributes:
        reasons: What is asked -> why its last attempt failed, or that it is late.

    Args:
        name: Whose it is, as the log names it.
        passing: What ``repeat`` takes for an error that passes.
    """

    def __init__(self, name: str, passing: type[MonsterError] = StoreUnavailable) -> None:
        self.reasons: dict[str, str] = {}
        self._passing = passing
        self._name = name
        self._failures = 0
        self._given_up: set[str] = set()

    @property
    def reason(self) -> str | None:
        """Why something failed, None if nothing does."""
        return next(iter(self.reasons.values()), None)

    @property
    def trouble(self) -> str | None:
        """What ``told`` says, None if nothing fails."""
        return self.told if self.reasons else None

    @property
    def told(self) -> str:
        """What fails and why, in a sentence for ``/ready``; once for each reason."""
        causes: dict[str, list[str]] = {}
        for what, why in self.reasons.items():
            causes.setdefault(why, []).append(what)
        parts = [f"{', '.join(whats)} fail: {why}" for why, whats in causes.items()]
        return f"{self._name}: {'; '.join(parts)}"

    def failed(self, what: str, error: Exception) -> None:
        """An attempt has failed, and is going to be repeated."""
        if not self.reasons:
            self._failures = 0
            logger.warning("%s: %s fail, and are repeated: %s", self._name, what, error)
        self._failures += 1
        self._given_up.discard(what)
        self.reasons[what] = str(error)

    def late(self, what: str, why: str) -> None:
        """An attempt has had no answer for a while; it goes on, and ends one way or the other."""
        if not self.reasons:
            self._failures = 0
            logger.warning("%s: %s hang: %s", self._name, what, why)
        self._given_up.discard(what)
        self.reasons[what] = why

    def passed(self, what: str) -> None:
        """An attempt has succeeded: so would what nobody tries any more."""
        if not self.reasons:
            return
        for ended in (what, *self._given_up):
            self.reasons.pop(ended, None)
        self._given_up.clear()
        if not self.reasons:
            after = f", after {self._failures} failures" if self._failures else ""
            logger.warning("%s: works again%s", self._name, after)

    async def repeat(
        self,
        what: str,
        attempt: Callable[[], Awaitable[T]],
        after_failure: Callable[[], None] | None = None,
    ) -> T:
        """Try, again and again while the database is only unavailable.

        Args:
            what: What is asked.
            attempt: Asks it.
            after_failure: Called after each attempt that failed, before the pause, if given.

        Returns:
            What the attempt that succeeded returned.

        Raises:
            StoreError: The database refuses for good.
        """
        failures = 0
        while True:
            try:
                result = await attempt()
            except self._passing as exc:
                self.failed(what, exc)
                if after_failure is not None:
                    after_failure()
                await pause(failures)
                failures += 1
            else:
                self.passed(what)
                return result

    def given_up(self, what: str) -> None:
        """Nobody needs it any more; that it would succeed is known once something else does."""
        if what in self.reasons:
            self._given_up.add(what)
