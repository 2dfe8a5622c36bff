"""What one partition of the sessions log makes of its facts: who is connected where (R2, S1 to S6).

A pure fold: facts in; rows, and what the worker has to append, out. The same facts give the same
rows and the same wills with the same sequences, whoever folds them and however often (S2). What
else is asked for may be appended by two workers at once, and again: it counts once, or says the
same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from monstermq_shared.bus.fact_reading import FACTS_MAX
from monstermq_shared.bus.facts import Claim, Detach, Fact, Gap, Lease, Open, Subs
from monstermq_shared.sessions.distributed.ending import Ending
from monstermq_shared.sessions.distributed.session_asks import (
    PIECE_MAX,
    Ask,
    BusGap,
    ClaimCounts,
    ClaimsBatch,
    Ended,
    WillDue,
    detach_of,
    end_of,
    in_pieces,
    mark_of,
    sweep_of,
)
from monstermq_shared.sessions.distributed.session_rows import ended_at, row_of, state_of
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.distributed.silent_edges import SilentEdges
from monstermq_shared.sessions.distributed.sweeping import Sweeping
from monstermq_shared.stores.changes import ClientChanges, StoredSession

REASON_LEASE = "lease"
"""Why the worker detaches the clients of an edge that says nothing any more."""

REASON_GAP = "gap"
"""Why it detaches those who may have missed messages that are gone (S6)."""


class Claims:
    """The sessions of one partition.

    Args:
        partitions: How many the bus has.
        lease_ms: How long an edge may be silent that has said nothing yet.
        counts: Where it is counted.
    """

    def __init__(
        self, *, partitions: int, lease_ms: int, counts: ClaimCounts | None = None
    ) -> None:
        self.counts = ClaimCounts() if counts is None else counts
        self._partitions = partitions
        self._sessions: dict[str, SessionState] = {}
        self._changes: dict[str, ClientChanges] = {}
        self._wills: list[WillDue] = []
        self._ended: list[Ended] = []
        self._gaps: list[BusGap] = []
        self._edges = SilentEdges(lease_ms)
        self._ending = Ending()
        self._sweeping = Sweeping()
        # The newest time of a record, and what of it this process's clock agrees with.
        self._newest_ms = -1
        self._log_ms = -1

    def load(self, stored: Iterable[StoredSession]) -> None:
        """Take sessions as their rows have them, before any fact."""
        for session in stored:
            client_id = session.row.client_id
            state = self._sessions[client_id] = state_of(session)
            if state.attached:
                state.run = self._edges.add(state.run, client_id)
            elif state.expiry_s:
                self._ending.add(client_id, state)
            ended = ended_at(session)
            if ended is not None:
                self._sweeping.go_on(client_id, ended)

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._sessions)

    @property
    def holds_changes(self) -> bool:
        """Whether ``flush`` would return something."""
        return bool(self._changes or self._wills or self._ended or self._gaps)

    def attached(self) -> Mapping[str, int]:
        """Return run, in hex -> how many clients its edge has."""
        return self._edges.attached()

    def take(self, facts: Sequence[Fact], offset: int, time_ms: int) -> None:
        """Take the facts of one record, as ``fact_reading`` returns them.

        Args:
            facts: In order.
            offset: Of their record.
            time_ms: The same.
        """
        self._newest_ms = max(self._newest_ms, time_ms)
        for index, fact in enumerate(facts):
            if isinstance(fact, Lease):
                self._edges.lease(fact.run, fact.for_ms)
            elif isinstance(fact, Gap):
                self._gap(fact, offset)
            else:
                self._take(fact, offset, index, time_ms)

    def flush(self) -> ClaimsBatch:
        """Return what has come of the facts since."""
        for client_id, change in self._changes.items():
            state = self._sessions.get(client_id)
            if state is not None:
                change.session = row_of(client_id, state, self._sweeping.epoch_of(client_id))
        batch = ClaimsBatch(
            changes=self._changes, wills=self._wills, ended=self._ended, gaps=self._gaps
        )
        self._changes, self._wills, self._ended, self._gaps = {}, [], [], []
        return batch

    # -- facts -----------------------------------------------------------------------------------

    def _take(self, fact: Fact, offset: int, index: int, time_ms: int) -> None:
        assert not isinstance(fact, Lease | Gap), "they name no client"
        client_id = fact.client_id
        state = self._sessions.get(client_id) or SessionState()
        before = _Before(state)
        taken = state.take(fact, offset, time_ms)
        if not taken.valid:
            self.counts.invalid += 1
            return
        if taken.will is not None:
            self._wills.append(WillDue(client_id, taken.will, offset * FACTS_MAX + index))
        if isinstance(fact, Claim):
            self._claimed(client_id, state, before)
        elif isinstance(fact, Detach):
            self._detached(client_id, state, before)
        elif isinstance(fact, Subs):
            self._subscribed(client_id, fact)
        elif isinstance(fact, Open):
            position = (fact.partition, fact.offset)
            self._changed(client_id).opened[fact.packet_id] = position

    def _claimed(self, client_id: str, state: SessionState, before: "_Before") -> None:
        if before.attached:
            self._edges.remove(before.run, client_id)
        elif before.expiry_s:
            self._ending.remove(client_id, before.changed_ms, before.expiry_s)
        self._sessions[client_id] = state
        if state.incarnation == state.epoch and (before.epoch >= 0 or state.expiry_s):
            # Rows of subscriptions may be left even where there was no session: of another log.
            self._changes[client_id] = ClientChanges(cleared=True)
            if not state.expiry_s and (before.expiry_s or before.goes_on):
                self._ends(client_id, state.epoch)
        if state.expiry_s:
            self._sweeping.forget(client_id)
        if state.attached:
            state.run = self._edges.add(state.run, client_id)
            self._changed(client_id)
        else:
            self._is_over(client_id, state)

    def _detached(self, client_id: str, state: SessionState, before: "_Before") -> None:
        self._edges.remove(state.run, client_id)
        if not state.expiry_s:
            self._is_over(client_id, state)
            return
        self._ending.add(client_id, state)
        opened = self._changed(client_id).opened
        for packet_id in before.in_flight:
            if packet_id not in state.in_flight:
                opened[packet_id] = None

    def _ends(self, client_id: str, epoch: int) -> None:
        """S4: a claim of expiry 0 has ended a kept session."""
        self._ended.append(Ended(client_id, epoch))
        self._sweeping.ended(client_id, epoch)

    def _is_over(self, client_id: str, state: SessionState) -> None:
        """S1: a session of expiry 0 is gone; its row goes when S4 has nothing left."""
        if state.incarnation < state.epoch:
            # Its claim went on with a kept session (R2), which ends with it.
            state.load({}, {})
            self._changes[client_id] = ClientChanges(cleared=True)
            self._ends(client_id, state.epoch)
        elif self._sweeping.epoch_of(client_id) is None:
            self._gone(client_id)
        else:
            self._changed(client_id)

    def _gone(self, client_id: str) -> None:
        del self._sessions[client_id]
        self._changes[client_id] = ClientChanges(cleared=True)

    def _subscribed(self, client_id: str, subs: Subs) -> None:
        subscriptions = self._changed(client_id).subscriptions
        for topic_filter, qos, _ in subs.add:
            subscriptions[topic_filter] = qos
        for topic_filter in subs.remove:
            subscriptions[topic_filter] = None

    def _changed(self, client_id: str) -> ClientChanges:
        return self._changes.setdefault(client_id, ClientChanges())

    def _gap(self, gap: Gap, offset: int) -> None:
        if gap.partition < self._partitions:
            self._gaps.append(BusGap(gap.partition, offset))
        else:
            self.counts.invalid += 1

    # -- what is appended before the commit ------------------------------------------------------

    def debts(self, batch: ClaimsBatch) -> Iterator[list[Ask]]:
        """Yield, piece by piece, what must be in the logs before a batch is committed.

        Sessions are looked at as they are when a piece is asked for: what has come meanwhile is
        newer than the batch, and says the same or more.
        """
        self.counts.swept += len(batch.ended) * self._partitions
        yield from in_pieces(
            Ask(partition, sweep_of(client_id, epoch))
            for client_id, epoch in batch.ended
            for partition in range(self._partitions)
        )
        for gap in batch.gaps:
            yield from in_pieces(self._after(gap))

    def _after(self, gap: BusGap) -> Iterator[Ask]:
        """S6: mark again what may have lost its marker, and detach who may wait for it."""
        for client_id in [*self._sessions]:
            state = self._sessions.get(client_id)
            if state is None or not state.expiry_s or state.epoch >= gap.told_at:
                continue
            self.counts.marked += 1
            if state.attached:
                yield Ask(None, detach_of(client_id, state, REASON_GAP))
            else:
                yield Ask(gap.partition, mark_of(client_id, state))

    # -- what is asked for when the log was read to its end --------------------------------------

    def at_end(self, elapsed_ms: int, wall_ms: int) -> Mapping[bytes, int]:
        """Time has passed in which the log was read, and nothing more was in it.

        Args:
            elapsed_ms: How much; time in which nothing could be read does not count.
            wall_ms: What the clock shows. Sessions end by the log's time as far as the clock agrees
                with it: neither a clock that is wrong nor one odd record ends any.

        Returns:
            The runs of edges that were silent for a whole lease by it, and how many clients each
            has. ``asks`` has them detached.
        """
        self._log_ms = min(self._newest_ms, wall_ms)
        self._ending.pass_time(elapsed_ms)
        self._sweeping.pass_time(elapsed_ms)
        return self._edges.pass_time(elapsed_ms)

    def asks(self, limit: int = PIECE_MAX) -> list[Ask]:
        """Return some of what is to be appended now; call it again as long as there is any.

        What is not read back is asked for once more, later.
        """
        found: list[Ask] = []
        for client_id in islice(self._edges.clients(), limit):  # S3
            self.counts.detached += 1
            found.append(Ask(None, detach_of(client_id, self._sessions[client_id], REASON_LEASE)))
        for client_id in self._ending.over(self._log_ms, limit - len(found)):  # S4
            self.counts.expired += 1
            found.append(Ask(None, end_of(client_id, self._sessions[client_id])))
        return found

    def to_sweep(self, limit: int) -> Mapping[str, int]:
        """Return client -> the epoch that its cuts should show, of some ended sessions (S4)."""
        return self._sweeping.to_look_at(limit)

    def swept(self, asked: Mapping[str, int], found: Mapping[str, Sequence[int]]) -> list[Ask]:
        """Take what was found of ``to_sweep``; return what is to be appended.

        Args:
            asked: What it has returned.
            found: Client -> the partitions whose cut is older.
        """
        clean, again = self._sweeping.looked(asked, found)
        for client_id in clean:
            state = self._sessions.get(client_id)
            if state is not None and not state.attached:
                self._gone(client_id)
        self.counts.swept += len(again)
        return [Ask(partition, sweep_of(client_id, epoch)) for client_id, epoch, partition in again]


class _Before:
    """What a fact may change of a session, as it was.

    Attributes:
        goes_on: Its connection goes on with a session that was there before.
    """

    __slots__ = ("attached", "changed_ms", "epoch", "expiry_s", "goes_on", "in_flight", "run")

    def __init__(self, state: SessionState) -> None:
        self.attached = state.attached
        self.changed_ms = state.changed_ms
        self.epoch = state.epoch
        self.expiry_s = state.expiry_s
        self.goes_on = state.attached and state.incarnation < state.epoch
        self.in_flight = state.in_flight
        self.run = state.run
