"""Brokers that break one rule each; the simulation must find each of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tests.simulation.broker import Build

from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.turn import Journal, Speaker
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.retained import RetainedMessages, RetainedReplay
from monstermq_shared.stores.changes import CommitResult, StoredSession

Change = Callable[[Build], Build]

Says = Callable[[str, Sequence[Any]], bool]
"""Whether a call, by name and arguments, is the one that does not wait."""


def _early(says: Says) -> Change:
    """Break the rule that a call waits for its commit."""

    class EarlyJournal(Journal):
        __slots__ = ()

        def after(
            self, speaker: Speaker, durable: bool, call: Callable[..., None], *arguments: object
        ) -> None:
            if says(call.__name__, arguments):
                call(*arguments)
            else:
                super().after(speaker, durable, call, *arguments)

    class EarlyEngine(LocalEngine):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self.journal.__class__ = EarlyJournal

    return _built_with(EarlyEngine)


def _built_with(engine: type[LocalEngine]) -> Change:
    return lambda build: replace(build, engine=engine)


def _answer(kind: Answer) -> Says:
    return lambda name, arguments: name == "answer" and arguments[0] is kind


def _named(wanted: str) -> Says:
    return lambda name, _: name == wanted


def _is_exactly_once(name: str, arguments: Sequence[Any]) -> bool:
    return name == "deliver" and arguments[3] == 2


def _with_session(kind: type[PersistentSession]) -> Change:
    class Engine(LocalEngine):
        def _persistent(self, client_id: str, incarnation: int) -> PersistentSession:
            session = super()._persistent(client_id, incarnation)
            session.__class__ = kind
            return session

    return _built_with(Engine)


class _RowsOnlyWhileAway(PersistentSession):
    __slots__ = ()

    def enqueue(self, run: MessageRun, qos: int, records: Sequence[Record]) -> bool:
        made_rows = super().enqueue(run, qos, records)
        if self.link is not None:
            for record in records:
                self.journal.changes(self.client_id).queued.pop(record.offset, None)
        return made_rows


class _RepetitionsRouted(PersistentSession):
    __slots__ = ()

    def open_new(self, run: MessageRun, first_offset: int) -> list[int]:
        super().open_new(run, first_offset)
        return list(range(run.count))


class _RowsOutliveReceipt(PersistentSession):
    __slots__ = ()

    def _mark_received(self, packet_ids: Sequence[int]) -> list[int]:
        super()._mark_received(packet_ids)
        return []


class _WindowOneTooWide(PersistentSession):
    __slots__ = ()

    def fill_window(self) -> None:
        self.window += 1
        super().fill_window()
        self.window -= 1


class _OpenIdsForgotten(LocalEngine):
    def restore(self, stored: Iterable[StoredSession], wall_ms: int) -> list[str]:
        return super().restore([replace(item, open_ids={}) for item in stored], wall_ms)


class _InFlightForgotten(LocalEngine):
    def restore(self, stored: Iterable[StoredSession], wall_ms: int) -> list[str]:
        return super().restore([replace(item, in_flight={}) for item in stored], wall_ms)


class _NoOverlay(RetainedMessages[Session]):
    def _send_piece(self, replay: RetainedReplay[Session], start: str) -> None:
        """Trust the table alone."""
        replay.unwritten = None


class _NothingNoted(RetainedMessages[Session]):
    def note(self, topic: str) -> None:
        """Trust the table to be new."""


def _with_retained(kind: type[RetainedMessages[Session]]) -> Change:
    class Engine(LocalEngine):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self.retained.__class__ = kind

    return _built_with(Engine)


def _offsets_used_again(build: Build) -> Build:
    return replace(build, boots=False)


class _AtOnceOutOfTurn(Journal):
    __slots__ = ()

    def after(
        self, speaker: Speaker, durable: bool, call: Callable[..., None], *arguments: object
    ) -> None:
        if durable:
            super().after(speaker, durable, call, *arguments)
        else:
            call(*arguments)


class _OutOfTurnEngine(LocalEngine):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.journal.__class__ = _AtOnceOutOfTurn


class _OverlayEndsEarly(LocalEngine):
    def committed(self, result: CommitResult) -> None:
        turn = self.journal.committing
        super().committed(result)
        if turn is not None:
            self.retained_shown(turn.upto)


class _HeldForEver(LocalEngine):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        for backlog in self.views.backlogs:
            backlog.emptied = lambda _: None


BREAKS: dict[str, Change] = {
    "PUBACK leaves before the commit": _early(_answer(Answer.PUBACK)),
    "PUBREC leaves before the commit": _early(_answer(Answer.PUBREC)),
    "PUBREL leaves before the commit": _early(_answer(Answer.PUBREL)),
    "PUBCOMP leaves before the commit": _early(_answer(Answer.PUBCOMP)),
    "PUBLISH with QoS 2 leaves before the commit": _early(_is_exactly_once),
    "SUBACK leaves before the commit": _early(_named("_subscribed")),
    "CONNACK leaves before the commit": _early(_named("_attached")),
    "rows are read before they are committed": _early(_named("_cut_committed")),
    "what needs no commit overtakes what does": _built_with(_OutOfTurnEngine),
    "open ids are not stored": _built_with(_OpenIdsForgotten),
    "in-flight ids are not stored": _built_with(_InFlightForgotten),
    "offsets are used again": _offsets_used_again,
    "rows are written for clients that are away only": _with_session(_RowsOnlyWhileAway),
    "rows stay after PUBREC": _with_session(_RowsOutliveReceipt),
    "repetitions of QoS 2 are routed again": _with_session(_RepetitionsRouted),
    "the window is one too wide": _with_session(_WindowOneTooWide),
    "the overlay is not looked at": _with_retained(_NoOverlay),
    "live messages are not noted during a replay": _with_retained(_NothingNoted),
    "the overlay ends with the turn, and not with the follower's commit": _built_with(
        _OverlayEndsEarly
    ),
    "a view that has caught up releases nobody": _built_with(_HeldForEver),
}
"""Rule -> how it is broken."""
