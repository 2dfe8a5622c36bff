"""Which value of a JSON payload is meant."""

import re
from dataclasses import dataclass

from monstermq_shared.errors import QueryRefused

_STEPS_MAX = 16
_SIZE_MAX = 256
_INDEX_MAX = 1_000_000
_STEP = re.compile(r'\.?(?:\[(\d{1,7})\]|\["([^"]*)"\]|"([^"]*)"|([^."\[\]]+))', re.ASCII)
_FORBIDDEN = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')


@dataclass(frozen=True, slots=True)
class FieldPath:
    """The way from the top of a JSON document to a value.

    Attributes:
        steps: Names of members, and indexes of arrays from 0. A name has no quote, backslash or
            control character; an index means an array's element, never a member.
    """

    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> "FieldPath | None":
        """Read a path such as ``value``, ``motor.speed``, ``$.axes[0].position``, ``"a.b".c``.

        Returns:
            None for the whole document, ``$`` or nothing.

        Raises:
            QueryRefused: It is none, or too long.
        """
        if len(text) > _SIZE_MAX:
            raise QueryRefused(f"the field path is longer than {_SIZE_MAX} characters")
        rest = text.strip()
        at = 1 if rest.startswith("$") else 0
        steps: list[str | int] = []
        while at < len(rest):
            found = _STEP.match(rest, at)
            if found is None or _stands_wrong(found[0], at, rest):
                raise _refused(text)
            steps.append(_step(found, text))
            at = found.end()
            if at < len(rest) and rest[at] not in ".[":
                raise _refused(text)
        if len(steps) > _STEPS_MAX:
            raise QueryRefused(f"the field path {text!r} has more than {_STEPS_MAX} steps")
        return cls(tuple(steps)) if steps else None

    def __str__(self) -> str:
        """Return a text that ``parse`` reads as the same path."""
        return "$" + "".join(
            f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in self.steps
        )


def _stands_wrong(step: str, at: int, text: str) -> bool:
    """Tell whether a step has a dot where nothing is before it, or none after the dollar."""
    return (at == 0 and step.startswith(".")) or (text[:at] == "$" and step[0] not in ".[")


def _step(found: re.Match[str], text: str) -> str | int:
    index, *names = found.groups()
    if index is not None:
        if int(index) > _INDEX_MAX:
            raise _refused(text)
        return int(index)
    name = str(next(name for name in names if name is not None))
    if not name or _FORBIDDEN.search(name):
        raise _refused(text)
    return name


def _refused(text: str) -> QueryRefused:
    return QueryRefused(
        f"{text!r} is not a path to a JSON field; write it as value, motor.speed, axes[0].position "
        'or, for a name with a dot in it, "a.b".c'
    )
