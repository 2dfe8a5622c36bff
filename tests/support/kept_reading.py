"""What the logs make of kept sessions (R2, R3), by code that shares nothing with the product."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.log_reading import CONTROL, LogRecord

Fact = dict[str, Any]


@dataclass(slots=True)
class Kept:
    """A session as the sessions log has it.

    Attributes:
        epoch: The offset of the newest valid claim.
        incarnation: That of the claim that began the session.
        expiry_s: How long it outlives its connection.
        attached: No valid detach of that epoch follows.
        subscriptions: Filter -> QoS.
    """

    epoch: int = -1
    incarnation: int = -1
    expiry_s: int = 0
    attached: bool = False
    subscriptions: dict[str, int] = field(default_factory=dict)

    def take(self, fact: Fact, offset: int) -> None:
        """Take a fact of it, if it is valid (R2)."""
        name = fact["f"]
        if name == "claim":
            self._claim(fact, offset)
        elif name in {"subs", "detach", "open"} and self.attached and fact["e"] == self.epoch:
            if name == "detach":
                self.attached = False
            elif name == "subs":
                change(self.subscriptions, fact)

    def _claim(self, claim: Fact, offset: int) -> None:
        if claim.get("if", self.epoch) != self.epoch:
            return
        if claim["clean"] or self.epoch < 0 or not self.expiry_s:
            self.incarnation = offset
            self.subscriptions = {}
        self.epoch = offset
        self.expiry_s = claim["expiry"]
        self.attached = "if" not in claim


class CutRow(NamedTuple):
    """A row of ``cuts`` but for its key."""

    epoch: int
    at: int
    incarnation: int
    subscriptions: tuple[tuple[str, int], ...]


def change(subscriptions: dict[str, int], fact: Fact) -> None:
    """Add and remove what a fact says."""
    subscriptions.update((name, qos) for name, qos, _ in fact.get("add", ()))
    for name in fact.get("del", ()):
        subscriptions.pop(name, None)


def fold_sessions(partitions: Mapping[int, Iterable[LogRecord]]) -> dict[str, Kept]:
    """Return client -> its session, as the records of the sessions log that count have it."""
    sessions: dict[str, Kept] = {}
    for records in partitions.values():
        for record in records:
            for fact in record.facts():
                if "c" in fact:
                    sessions.setdefault(fact["c"], Kept()).take(fact, record.offset)
    return sessions


def fold_cuts(partitions: Mapping[int, Iterable[LogRecord]]) -> dict[tuple[str, int], CutRow]:
    """Return (client, partition) -> its cut, as the records of the bus that count have it."""
    cuts: dict[tuple[str, int], CutRow] = {}
    for partition, records in partitions.items():
        for record in records:
            if record.kind != CONTROL:
                continue
            for fact in record.facts():
                if fact["f"] == "marker":
                    key = fact["c"], partition
                    before = cuts.get(key, CutRow(-1, -1, -1, ()))
                    if fact["e"] >= before.epoch:
                        cuts[key] = _cut(before, fact, record.offset)
    return cuts


def _cut(before: CutRow, marker: Fact, offset: int) -> CutRow:
    whole = marker["set"]
    known = before.subscriptions if whole is None else [(name, qos) for name, qos, _ in whole]
    subscriptions = dict(known)
    change(subscriptions, marker)
    return CutRow(marker["e"], offset, marker["inc"], tuple(sorted(subscriptions.items())))
