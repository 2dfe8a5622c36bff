"""Names with places where any text may stand: what a topic is looked for by."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import TEXT_SIZE_MAX, WILDCARDS_MAX


class Wildcard(Enum):
    """A part of a pattern that stands for other text, slashes included."""

    ANY = "any text, also none"
    ONE = "one character"


Part = str | Wildcard

_GLOB = {"*": Wildcard.ANY, "?": Wildcard.ONE, "+": Wildcard.ONE}
_LIKE = {"%": Wildcard.ANY, "_": Wildcard.ONE}


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """What a whole topic name must look like.

    Attributes:
        parts: Texts and wildcards, in order; no two texts and no two ``ANY`` follow each other.
    """

    parts: tuple[Part, ...]

    @classmethod
    def glob(cls, text: str) -> "TopicPattern":
        """Read a pattern in which ``*`` is any text, and ``?`` or ``+`` is one character.

        Raises:
            QueryRefused: It is empty, too long, has too many wildcards, or is not Unicode text.
        """
        return cls(_parts(text, _GLOB))

    @classmethod
    def like(cls, text: str) -> "TopicPattern":
        r"""Read a pattern of SQL: ``%`` is any text, ``_`` one character, ``\`` takes the next one.

        Raises:
            QueryRefused: As from ``glob``.
        """
        return cls(_parts(text, _LIKE, escape="\\"))

    @classmethod
    def containing(cls, text: str) -> "TopicPattern":
        """Return the pattern of all names that contain a text, wildcards taken as they are.

        Raises:
            QueryRefused: As from ``glob``.
        """
        return cls((Wildcard.ANY, *_parts(text, {}), Wildcard.ANY))

    def below(self, namespace: str) -> "TopicPattern":
        """Return the pattern of the names that are in a namespace, ``<namespace>/...``, and match.

        Raises:
            QueryRefused: The namespace is too long.
        """
        (prefix,) = _parts(namespace, {})
        return TopicPattern(_joined([prefix, "/", *self.parts]))

    @property
    def is_open(self) -> bool:
        """Whether any text may stand before and after what is written, so that parts match."""
        return self.parts[0] is Wildcard.ANY and self.parts[-1] is Wildcard.ANY

    @property
    def literals(self) -> list[str]:
        """The texts that every match contains, in order."""
        return [part for part in self.parts if isinstance(part, str)]

    @property
    def prefix(self) -> str:
        """What every match begins with, as it is written; perhaps nothing."""
        first = self.parts[0]
        return first if isinstance(first, str) else ""

    def to_like(self) -> str:
        r"""Return it as a pattern of SQL's LIKE, with ``\`` as the escape character."""
        written = {Wildcard.ANY: "%", Wildcard.ONE: "_"}
        return "".join(
            part.translate(_LIKE_ESCAPES) if isinstance(part, str) else written[part]
            for part in self.parts
        )

    def to_glob(self) -> str:
        """Return it as a pattern of SQLite's GLOB, which heeds the case of letters."""
        written = {Wildcard.ANY: "*", Wildcard.ONE: "?"}
        return "".join(
            escaped_for_glob(part) if isinstance(part, str) else written[part]
            for part in self.parts
        )


_LIKE_ESCAPES = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
_GLOB_ESCAPES = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]"})


def escaped_for_glob(text: str) -> str:
    """Return what SQLite's GLOB takes for this text and nothing else."""
    return text.translate(_GLOB_ESCAPES)


def matcher(pattern: TopicPattern, *, ignore_case: bool) -> Callable[[str], object]:
    """Return what is true of the topics that match.

    It takes time linear in topic times pattern at most, whatever they are. Where case is ignored,
    that is for the letters of ASCII, as in SQLite.
    """
    segments = [""]
    for part in pattern.parts:
        if part is Wildcard.ANY:
            segments.append("")
        else:
            segments[-1] += "." if isinstance(part, Wildcard) else re.escape(part)
    first, *others = segments
    # The first place where a segment fits is as good as any other: no going back.
    text = first + "".join(f"(?>.*?{segment})" for segment in others[:-1])
    if others:
        text += f".*{others[-1]}"
    flags = re.DOTALL | re.ASCII | (re.IGNORECASE if ignore_case else 0)
    return re.compile(text, flags).fullmatch


def _parts(text: str, wildcards: dict[str, Wildcard], escape: str = "") -> tuple[Part, ...]:
    if not text:
        raise QueryRefused(
            "the name to look for is empty; give a part of it, such as *temperature*"
        )
    if len(text) > TEXT_SIZE_MAX:
        raise QueryRefused(f"the name to look for is longer than {TEXT_SIZE_MAX} characters")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise QueryRefused("the name to look for contains half a surrogate pair") from exc
    if "\0" in text:
        raise QueryRefused("the name to look for contains NUL, which no topic does")
    symbols = iter(text)
    parts = _joined(
        next(symbols, symbol) if symbol == escape else wildcards.get(symbol, symbol)
        for symbol in symbols
    )
    if sum(part is Wildcard.ANY for part in parts) > WILDCARDS_MAX:
        raise QueryRefused(f"the name to look for has more than {WILDCARDS_MAX} wildcards")
    return parts


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif not (part is Wildcard.ANY and last is Wildcard.ANY):
            joined.append(part)
    return tuple(joined)
