"""Where a next page begins, as a text that means nothing to anybody but us.

A cursor is a place, sealed together with the question it belongs to: one that was made up, or
that belongs to another question, is refused.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

import orjson

from monstermq_shared.errors import QueryRefused

Place = Sequence[str | int]
"""Where something stands in the order of an answer; only the store that made it reads it."""

_SEAL_SIZE = 16
_SIZE_MAX = 256 * 1024  # a topic of 64 KiB, escaped in JSON and in base64


class Cursors:
    """Seals places and reads them back.

    Args:
        key: Those who share it read each other's cursors; None: only this object's own.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key

    def seal(self, question: str, place: Place) -> str:
        """Return the cursor of a place in the answer to a question."""
        content = orjson.dumps(place)
        return (
            base64.urlsafe_b64encode(self._seal(question, content) + content).decode().rstrip("=")
        )

    def open(self, question: str, cursor: str) -> list[str | int]:
        """Return the place that ``seal`` was given.

        Raises:
            QueryRefused: It is not one of ours, or belongs to another question.
        """
        if len(cursor) > _SIZE_MAX:
            raise refused_cursor()
        try:
            sealed = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except (binascii.Error, UnicodeEncodeError) as exc:
            raise refused_cursor() from exc
        seal, content = sealed[:_SEAL_SIZE], sealed[_SEAL_SIZE:]
        if not hmac.compare_digest(seal, self._seal(question, content)):
            raise refused_cursor()
        place: list[str | int] = orjson.loads(content)
        return place

    def after(self, question: str, cursor: str | None) -> str | None:
        """Return the text after which a page begins, where places are one text; None: the first.

        Raises:
            QueryRefused: As from ``open``.
        """
        return None if cursor is None else str(self.open(question, cursor)[0])

    def _seal(self, question: str, content: bytes) -> bytes:
        # The length comes first, so nothing of the content can pass for a part of the question.
        about = question.encode("utf-8", "surrogatepass")
        text = len(about).to_bytes(8, "big") + about + content
        return hmac.digest(self._key, text, hashlib.sha256)[:_SEAL_SIZE]


def refused_cursor() -> QueryRefused:
    """Return the error for what is no cursor of the question it came with."""
    return QueryRefused(
        "this cursor belongs to another question, or the server has restarted since; "
        "ask again without a cursor, then go on with the nextCursor of that answer"
    )


def refused_position(instead: str) -> QueryRefused:
    """Return the error for a position that is none of the log of these topics.

    Args:
        instead: What to go on with.
    """
    return QueryRefused(
        "this position belongs to other topics, or the server has restarted since; go on with "
        f"{instead}"
    )
